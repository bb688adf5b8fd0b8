"""Annotators that need no model, for the annotation tests."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ernie_vilg_jax.annotation.detectors import Detection


class Detector:
    """A cup in every image, unless the id is among the bad ones; counts what it is given."""

    given = 0

    def __init__(self, bad: Sequence[str] = (), always: bool = False, model: str = "") -> None:
        self.bad, self.always, self.model = set(bad), always, model

    def detect(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[list[Detection]]:
        Detector.given = max(Detector.given, len(images))
        if self.always or self.bad & set(ids):
            raise RuntimeError("out of cups")
        return [[Detection({"en": "cup", "zh": "杯子"}, (0.0, 0.25, 0.5, 1.0), 0.75)] for _ in images]


class Captioner:
    def captions(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[dict[str, str]]:
        return [{"en": f"a cup on {image.mode}"} for image in images]


class Translator:
    def translate(self, texts: Sequence[str]) -> list[str]:
        return [f"一个杯子{len(text)}" for text in texts]
