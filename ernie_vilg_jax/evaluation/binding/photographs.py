"""The checker of photographs, in the way of GenEval (arXiv 2310.11513): a detector of `transformers` finds the things,
and a network that knows images and texts (CLIP) names the colour of each cut-out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ernie_vilg_jax.annotation.detectors import Detection, Detector
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.binding.facts import Fact, things_of
from ernie_vilg_jax.evaluation.binding.judging import Judgement, Seen, judge
from ernie_vilg_jax.evaluation.binding.nouns import COCO_NOUNS, PALETTE, Noun
from ernie_vilg_jax.evaluation.features import TextNetwork
from ernie_vilg_jax.evaluation.statistics import cosines

COLOURS = (*PALETTE, "white")
"""GenEval's ten."""
SHARPNESS = 100.0
"""What CLIP multiplies cosines by before the softmax."""


class PhotoChecker:
    """A `Checker`."""

    def __init__(
        self,
        detector: Detector,
        colours: TextNetwork | None = None,
        nouns: Sequence[Noun] = COCO_NOUNS,
        text: str = "a photo of a {colour} {noun}",
    ) -> None:
        """Combines the two networks.

        Args:
          detector: `annotation.detectors.make_detector("transformers", model=..., threshold=0.3)`.
          colours: names the colours; without it, facts about colours are refused.
          nouns: what the detector knows; their English names are its labels.
          text: what `colours` compares a cut-out with.
        """
        self._detector, self._colours, self._text = detector, colours, text
        self.nouns = tuple(nouns)
        self._names = {noun.en.lower(): noun.en for noun in nouns} | {noun.zh: noun.en for noun in nouns}

    def check(self, images: Sequence[np.ndarray], facts: Sequence[Sequence[Fact]]) -> list[Judgement]:
        """See `Checker.check`."""
        for several in facts:
            if unknown := things_of(several) - {noun.en for noun in self.nouns}:
                raise UserError(f"the detector does not know {unknown.pop()!r}: give one that does, or other prompts")
            used = {fact.colour for fact in several} | {fact.other_colour for fact in several}
            if used != {""} and used and self._colours is None:
                raise UserError("facts about colours need a network of images and texts beside the detector: name one")
            if unknown := used - {"", *COLOURS}:
                raise UserError(f"colour {unknown.pop()!r} is not known: it must be one of {', '.join(COLOURS)}")
        found = self._detector.detect(
            [Image.fromarray(image) for image in images], [str(k) for k in range(len(images))]
        )
        judgements = []
        for image, several, detections in zip(images, facts, found, strict=True):
            coloured = {f.noun for f in several if f.colour} | {f.other for f in several if f.other_colour}
            judgements.append(judge([self._seen(image, item, coloured) for item in detections], several))
        return judgements

    def _seen(self, image: np.ndarray, item: Detection, coloured: set[str]) -> Seen:
        name = next((self._names[word] for word in map(str.lower, item.name.values()) if word in self._names), "")
        colours = self._tints(image, item.box, name) if name in coloured else {}
        return Seen(item.box, item.score, {name: 1.0} if name else {}, colours)

    def _tints(self, image: np.ndarray, box: tuple[float, float, float, float], noun: str) -> dict[str, float]:
        """Probability of each of COLOURS in a box."""
        assert self._colours is not None
        height, width = image.shape[:2]
        x0, y0 = (min(int(value * size), size - 1) for value, size in zip(box[:2], (width, height), strict=True))
        x1, y1 = (int(np.ceil(value * size)) for value, size in zip(box[2:], (width, height), strict=True))
        cut = np.ascontiguousarray(image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)])
        seen = self._colours([cut])
        said = self._colours.texts([self._text.format(colour=colour, noun=noun) for colour in COLOURS])
        near = cosines(np.repeat(seen, len(said), 0), said)
        exponents = np.exp(SHARPNESS * (near - near.max()))
        return dict(zip(COLOURS, map(float, exponents / exponents.sum()), strict=True))
