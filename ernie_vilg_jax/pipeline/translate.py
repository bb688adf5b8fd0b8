"""Translators of `transformers`, from a folder or the hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import pretrained


class HubTranslator:
    """A sequence-to-sequence model of `transformers` (Marian, M2M100, NLLB, mBART, T5), decoded deterministically."""

    def __init__(
        self,
        model: str,
        prefix: str = "",
        source: str = "",
        target: str = "",
        max_tokens: int = 128,
        beams: int = 4,
        batch_size: int = 16,
        device: str = "cpu",
    ) -> None:
        """Loads the model.

        Args:
          model: folder that `save_pretrained` wrote (model and tokenizer), or owner/name on the hub.
          prefix: put before each text, for models that take the language there: ">>cmn_Hans<< " for Marian's
            English to Chinese, "translate English to Chinese: " for T5.
          source, target: language codes, for models that take them: "en" and "zh" for M2M100, "eng_Latn" and
            "zho_Hans" for NLLB, "en_XX" and "zh_CN" for mBART.
          max_tokens: maximum length of text and translation; longer ones are cut.
          beams: hypotheses in beam search; 1 is greedy.
          batch_size: texts at once.
          device: a torch device.
        """
        pretrained.check_positive("translator", max_tokens=max_tokens, beams=beams, batch_size=batch_size)
        self._prefix, self._batch_size, self._max_tokens = prefix, batch_size, max_tokens
        self._generation: dict[str, Any] = {"max_new_tokens": max_tokens, "num_beams": beams, "do_sample": False}
        self._hub = pretrained.Pretrained("translator", model, device)
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
        from transformers.models.auto import modeling_auto

        known = modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
        self._hub.check_type(known, "give a sequence-to-sequence model such as Marian, M2M100 or NLLB")
        self._tokenizer = self._hub.load(AutoTokenizer.from_pretrained, "tokenizer")
        if source:
            self._code("source", source)
            self._tokenizer.src_lang = source
        if target:
            self._generation["forced_bos_token_id"] = self._code("target", target)
        self._model = self._hub.load_model(AutoModelForSeq2SeqLM)
        # A model with learned positions cannot go beyond its last one, so texts and outputs are limited to it.
        positions = getattr(self._model.config, "max_position_embeddings", None) or max_tokens
        self._max_tokens = min(max_tokens, positions)
        self._generation["max_new_tokens"] = min(max_tokens, max(1, positions - 1))

    def _code(self, option: str, code: str) -> int:
        """The token of a language code; M2M100 writes it as __zh__."""
        vocabulary = self._tokenizer.get_vocab()
        for token in (code, f"__{code}__"):
            if token in vocabulary:
                return vocabulary[token]
        raise UserError(
            f"translator option {option}={code!r} is no language code of {self._hub.name}: see its model card"
        )

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Translations in the order of the texts; blank ones stay as they are."""
        results = list(texts)
        # Texts of similar length together, because a batch takes as long as its longest text.
        order = sorted((index for index, text in enumerate(texts) if text.strip()), key=lambda k: (len(texts[k]), k))
        for start in range(0, len(order), self._batch_size):
            indices = order[start : start + self._batch_size]
            inputs = self._tokenizer(
                [self._prefix + texts[index].strip() for index in indices],
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
            )
            with self._hub.torch.inference_mode():
                tokens = self._model.generate(**self._hub.on_device(dict(inputs)), **self._generation)
            for index, text in zip(
                indices, self._tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True
            ):
                results[index] = text.strip()
        return results
