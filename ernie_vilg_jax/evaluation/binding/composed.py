"""Scenes of the composed source to learn from: all its looks, grounds and traits, with the boxes that it knows."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from ernie_vilg_jax.evaluation.binding.drawing import ANY, EMPTY, MOST, SIDE, Scene
from ernie_vilg_jax.evaluation.binding.nouns import PALETTE, Noun
from ernie_vilg_jax.preparation.sources.composed.painting import paint
from ernie_vilg_jax.preparation.sources.composed.source import ComposedSource
from ernie_vilg_jax.preparation.sources.composed.vocabulary import THINGS

COMPOSED_NOUNS: tuple[Noun, ...] = tuple(thing.noun for thing in THINGS.values())
"""The drawn shapes, then all other things of the composed source."""


class ComposedScenes:
    """Scene i depends on (seed, i) alone; the scenes are others than those of `prepare` with the same seed."""

    def __init__(self, nouns: Sequence[Noun], seed: int) -> None:
        self._place = {noun.en: place for place, noun in enumerate(nouns)}
        self._source = ComposedSource(seed=seed, things=tuple(name for name in THINGS if name in self._place))
        self._seed = seed

    def scene(self, index: int) -> Scene:
        """See `drawing.Scene`. A scene with more than MOST things is replaced by another."""
        draw = random.Random(f"checker/{self._seed}/{index}")
        while True:
            plan = self._source.plan(draw.randrange(2**31))
            if sum(part.number for part in plan.parts) <= MOST:
                break
        image, found = paint(plan, SIDE, draw)
        boxes, nouns = np.zeros((MOST, 4), np.float32), np.full(MOST, EMPTY, np.int16)
        colours = np.full(MOST, ANY, np.int16)
        place = 0
        for part, mine in zip(plan.parts, found, strict=True):
            for box in mine:
                boxes[place], nouns[place] = box, self._place[part.thing]
                colours[place] = PALETTE.index(part.colour) if part.colour else ANY
                place += 1
        return Scene(np.asarray(image), boxes, nouns, colours)
