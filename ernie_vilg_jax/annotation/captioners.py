"""Captioners: captions by a model, or from a file.

As in the paper, part of the captions are replaced by a captioner's (`config.knowledge.generated_rate`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from ernie_vilg_jax import registry
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import pretrained
from ernie_vilg_jax.knowledge.words import LANGUAGES


class Captioner(Protocol):
    """Describes images. Equal images and ids give equal captions."""

    def captions(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[dict[str, str]]:
        """Language -> caption for each image; {} without a caption. `ids` are those of the records."""
        ...


CAPTIONERS: dict[str, str] = {
    "transformers": "ernie_vilg_jax.annotation.captioners:HubCaptioner",
    "file": "ernie_vilg_jax.annotation.captioners:CaptionFile",
}
"""Captioner name -> "module:class"."""


def make_captioner(name: str, **options: Any) -> Captioner:
    """Builds a captioner of `CAPTIONERS` from its options."""
    return registry.build("captioner", CAPTIONERS, name, options)


class CaptionFile:
    """Captions from a JSON Lines file of {"id": ..., "zh": ..., "en": ...}, either language optional."""

    def __init__(self, path: str) -> None:
        self._captions: dict[str, dict[str, str]] = {}
        fix = 'each line must be {"id": record id, "zh": caption, "en": caption}, with one of the captions or both'
        try:
            with Path(path).open(encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        self._add(line, f"line {number} of caption file {path}", fix)
        except OSError as error:
            raise UserError(f"caption file {path} cannot be read ({error.strerror}): {fix}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"caption file {path} is not UTF-8 ({error}): {fix}") from error

    def _add(self, line: str, where: str, fix: str) -> None:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where} is not JSON ({error}): {fix}") from error
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            raise UserError(f"{where} has no id: {fix}")
        if row["id"] in self._captions:
            raise UserError(f"{where} repeats the id {row['id']!r}: keep one line for each record")
        captions = {language: row[language] for language in LANGUAGES if row.get(language)}
        if not captions or not all(isinstance(text, str) and text.strip() for text in captions.values()):
            raise UserError(f"{where} has no caption, or one that is not text: {fix}")
        self._captions[row["id"]] = {language: text.strip() for language, text in captions.items()}

    def captions(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[dict[str, str]]:
        """The captions of each id; {} for those that the file does not have."""
        return [dict(self._captions.get(id, {})) for id in ids]


_TYPES = ("vision-encoder-decoder", "blip", "git", "blip-2")
"""Models that caption an image without a text prompt."""


class HubCaptioner:
    """An image-to-text model of `transformers`, decoded deterministically."""

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
          language: the language of its captions, "en" or "zh".
          max_tokens: maximum length of a caption.
          beams: hypotheses in beam search; 1 is greedy.
          batch_size: images at once.
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
            shown = pretrained.as_rgb(images[index], ids[index])
            return {"pixel_values": self._processor(images=[shown], return_tensors="pt")["pixel_values"]}

        for indices, inputs in self._hub.batches(len(images), self._batch_size, process):
            with self._hub.torch.inference_mode():
                tokens = self._model.generate(**inputs, **self._generation)
            for index, text in zip(
                indices, self._tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True
            ):
                if text.strip():
                    captions[index] = {self._language: " ".join(text.split())}
        return captions
