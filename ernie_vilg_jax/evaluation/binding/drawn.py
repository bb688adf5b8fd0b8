"""The checker of drawn shapes and emoji art: two small networks (`network.py`) and the rules of `judging.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.binding import weights
from ernie_vilg_jax.evaluation.binding.facts import Fact, things_of
from ernie_vilg_jax.evaluation.binding.judging import Judgement, Seen, judge
from ernie_vilg_jax.evaluation.binding.network import CELLS, FEATURES, SIDE, Finder, Namer, Names, cut_out
from ernie_vilg_jax.evaluation.binding.nouns import PALETTE
from ernie_vilg_jax.images import fitted
from ernie_vilg_jax.tables import ASSETS

WEIGHTS = ASSETS / "evaluation" / "binding.safetensors"
COMMAND = "ernie_vilg_jax.evaluation.binding.train"
PARTS = ("finder", "namer", "presence")
BATCH = 64
LOWEST = 0.05
"""Probability of a thing below which a peak is dropped."""
OVERLAP = 0.5
"""Intersection over union of two boxes from which on they are the same thing."""


VIEWS = 6
"""See `DrawnChecker.features`."""


class Boxes(NamedTuple):
    """The things found in one image, best first: boxes fp32 [n, 4] in [0, 1], and logits of their presence fp32 [n]."""

    boxes: np.ndarray
    logit: np.ndarray


class DrawnChecker:
    """A `Checker`. Equal images get equal judgements, whatever else is in the call."""

    def __init__(self, file: str | Path = WEIGHTS) -> None:
        """Reads weights that `binding.train` wrote."""
        self._params, self.nouns, _ = weights.read(Path(file), PARTS, COMMAND)
        self.file = Path(file)
        self._place = {noun.en: place for place, noun in enumerate(self.nouns)}

    def check(self, images: Sequence[np.ndarray], facts: Sequence[Sequence[Fact]]) -> list[Judgement]:
        """See `Checker.check`. Images are cropped to squares and judged at SIDE pixels."""
        for fact in (fact for several in facts for fact in several):
            self._known(fact)
        seen = self.see(images)
        return [judge(things, several) for things, several in zip(seen, facts, strict=True)]

    def _known(self, fact: Fact) -> None:
        if unknown := things_of([fact]) - set(self._place):
            raise UserError(f"the binding checker does not know {unknown.pop()!r}: it knows {', '.join(self._place)}")
        if unknown := {fact.colour, fact.other_colour} - {"", *PALETTE}:
            raise UserError(f"the binding checker does not know the colour {unknown.pop()!r}: {', '.join(PALETTE)}")

    def see(self, images: Sequence[np.ndarray]) -> list[list[Seen]]:
        """The things in each image, uint8 [H, W, 3], best first."""
        found: list[list[Seen]] = []
        for part in _batches(images):
            boxes = find(self._params, part)
            names = self._name(part, boxes)
            noun, colour = (iter(_softmax(np.asarray(logits))) for logits in (names.noun, names.colour))
            for several in boxes:
                found.append([])
                for box, score in zip(several.boxes, 1 / (1 + np.exp(-several.logit)), strict=True):
                    nouns = dict(zip(self._place, map(float, next(noun)), strict=False))  # the last one is no noun
                    colours = dict(zip(PALETTE, map(float, next(colour)), strict=True))
                    x0, y0, x1, y1 = map(float, box)
                    found[-1].append(Seen((x0, y0, x1, y1), float(score), nouns, colours))
        return found

    def _name(self, images: np.ndarray, boxes: Sequence[Boxes]) -> Names:
        """What all boxes of all images show, one after the other."""
        owner = np.repeat(np.arange(len(boxes)), [len(several.boxes) for several in boxes])
        every = np.concatenate([several.boxes for several in boxes])
        parts = [slice(start, start + BATCH) for start in range(0, max(len(every), 1), BATCH)]
        named = [self.names(images[owner[part]], every[part]) for part in parts]
        return Names(*(np.concatenate(values) for values in zip(*named, strict=True)))

    def names(self, images: np.ndarray, boxes: np.ndarray) -> Names:
        """What boxes show: images uint8 [B, SIDE, SIDE, 3], a box in each fp32 [B, 4] -> Names of NumPy arrays."""
        count = len(boxes)
        padding = [(0, -count % BATCH if count else BATCH)]
        padded = np.pad(images, [*padding, (0, 0), (0, 0), (0, 0)])
        out = self._namer(self._params["namer"], padded, np.pad(boxes, [*padding, (0, 0)], constant_values=0.5))
        return Names(*(np.asarray(value)[:count] for value in out))

    @cached_property
    def _namer(self) -> Any:
        module = Namer(len(self.nouns), len(PALETTE))

        def name(params: Params, images: jax.Array, boxes: jax.Array) -> Any:
            return module.apply({"params": params}, cut_out(images / 127.5 - 1, boxes))

        return jax.jit(name)

    def features(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Of whole images, uint8 [H, W, 3]: fp32 [N, VIEWS, FEATURES].

        The views are the whole image, the mean of its things, and its leftmost, rightmost, topmost and lowest thing.
        """
        rows: list[np.ndarray] = []
        for part in _batches(images):
            all_of_it = np.tile(np.asarray([[0, 0, 1, 1]], np.float32), (len(part), 1))
            whole = np.asarray(self.names(part, all_of_it).features)
            sure = [Boxes(b.boxes[b.logit > 0], b.logit[b.logit > 0]) for b in find(self._params, part)]
            things = np.asarray(self._name(part, sure).features)
            starts = np.cumsum([0, *(len(several.boxes) for several in sure)])
            for k, several in enumerate(sure):
                own = things[starts[k] : starts[k + 1]]
                if not len(own):
                    rows.append(np.stack([whole[k]] * VIEWS))
                    continue
                x, y = (several.boxes[:, :2] + several.boxes[:, 2:]).T
                rows.append(np.stack([whole[k], own.mean(0), *own[[x.argmin(), x.argmax(), y.argmin(), y.argmax()]]]))
        return np.stack(rows) if rows else np.zeros((0, VIEWS, FEATURES), np.float32)


def _batches(images: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """uint8 [at most BATCH, SIDE, SIDE, 3] at a time."""
    for start in range(0, len(images), BATCH):
        yield np.stack([at_size(image) for image in images[start : start + BATCH]])


def at_size(image: np.ndarray) -> np.ndarray:
    """An image as the networks take it: the square in its middle, uint8 [SIDE, SIDE, 3]."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    return image if image.shape[:2] == (SIDE, SIDE) else np.asarray(fitted(Image.fromarray(image), SIDE, SIDE))


@jax.jit
def _centres(params: Params, images: jax.Array) -> Any:
    return Finder().apply({"params": params}, images / 127.5 - 1)


def find(params: Params, images: np.ndarray) -> list[Boxes]:
    """The things in images uint8 [at most BATCH, SIDE, SIDE, 3]: peaks of the heat map."""
    padded = np.pad(images, [(0, BATCH - len(images)), (0, 0), (0, 0), (0, 0)])
    scale, shift = np.asarray(params["presence"])
    found = []
    for logit, offset, log_side in zip(*map(np.asarray, _centres(params["finder"], padded)), strict=True):
        around = np.pad(logit, 1, constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3)).max((2, 3))
        presence = scale * logit + shift
        lowest = np.log(LOWEST / (1 - LOWEST))
        y, x = np.nonzero((logit >= windows) & (presence > lowest))
        order = np.argsort(-logit[y, x], kind="stable")
        y, x = y[order], x[order]
        middle = (np.stack([x, y], -1) + 0.5 + offset[y, x]) / CELLS
        half = np.exp(np.minimum(log_side[y, x], 0.1)) / 2
        boxes = np.clip(np.concatenate([middle - half, middle + half], -1), 0, 1).astype(np.float32)
        keep: list[int] = []
        for k in range(len(boxes)):
            if (boxes[k, 2:] > boxes[k, :2]).all() and all(overlap(boxes[k], boxes[j]) < OVERLAP for j in keep):
                keep.append(k)
        found.append(Boxes(boxes[keep], presence[y, x][keep]))
    return found[: len(images)]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes x0, y0, x1, y1."""
    shared = np.prod(np.maximum(0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])))
    return float(shared / max(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared, 1e-9))


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)
