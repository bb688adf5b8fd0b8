"""Captioners of `transformers`, from a folder or the hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.knowledge import pretrained
from ernie_vilg_jax.knowledge.text import LANGUAGES

_TYPES = ("vision-encoder-decoder", "blip", "git", "blip-2")
"""Models that caption a picture without being asked in words."""


class HubCaptioner:
    """An image-to-text model of `transformers`, decoded without chance."""

    def __init__(
        self,
        model: str,
        language: str = "en",
        max_tokens: int = 32,
        beams: int = 4,
        batch_size: int = 8,
        device: str = "cpu",
    ) -> None:
        """Loads the model.

        Args:
          model: folder that `save_pretrained` wrote (model, image processor and tokenizer), or owner/name on the hub.
          language: the one it writes, "en" or "zh".
          max_tokens: length of a caption, at most.
          beams: hypotheses in beam search; 1 is greedy.
          batch_size: pictures at once.
          device: a torch device.
        """
        if language not in LANGUAGES:
            raise UserError(f"captioner option language={language!r} must be 'zh' or 'en'")
        pretrained.check_positive("captioner", max_tokens=max_tokens, beams=beams, batch_size=batch_size)
        self._language, self._batch_size = language, batch_size
        self._generation = {"max_new_tokens": max_tokens, "num_beams": beams, "do_sample": False}
        self._hub = pretrained.Pretrained("captioner", model, device)
        self._hub.check_type(_TYPES, f"give one of the types {', '.join(_TYPES)}")
        from transformers import AutoModelForImageTextToText, AutoTokenizer

        self._processor = self._hub.load_image_processor()
        self._tokenizer = self._hub.load(AutoTokenizer.from_pretrained, "tokenizer")
        self._model = self._hub.load_model(AutoModelForImageTextToText)

    def captions(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[dict[str, str]]:
        pretrained.check_ids(images, ids)
        captions: list[dict[str, str]] = [{} for _ in images]

        def process(index: int) -> dict[str, Any]:
            picture = pretrained.as_rgb(images[index], ids[index])
            return {"pixel_values": self._processor(images=[picture], return_tensors="pt")["pixel_values"]}

        for indices, inputs in self._hub.batches(len(images), self._batch_size, process):
            with self._hub.torch.inference_mode():
                tokens = self._model.generate(**inputs, **self._generation)
            for index, text in zip(
                indices, self._tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True
            ):
                if text.strip():
                    captions[index] = {self._language: " ".join(text.split())}
        return captions
