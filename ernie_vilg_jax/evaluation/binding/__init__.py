"""Do images show what their prompts say? Objects, colours, relations and counts of composed scenes.

checker = DrawnChecker()
judgements = checker.check(images, [facts_of("a red circle to the right of a blue square")] * len(images))

facts       what a prompt says, as facts
grammar     prompts in Chinese and English -> facts
judging     things seen in an image -> probabilities of facts
drawn       the checker of drawn shapes and emoji art, with the weights in assets
scorer      the same as a scorer, for re-ranking
photographs the checker of photographs: a detector, and a network that knows texts for the colours
train       makes the weights: sprites, drawing, scene_files, network, training, weights
blind       sheets for people who judge the same images without knowing the prompts
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ernie_vilg_jax.evaluation.binding.facts import Fact, facts_of_plan
from ernie_vilg_jax.evaluation.binding.grammar import facts_of
from ernie_vilg_jax.evaluation.binding.judging import Judgement, Verdict
from ernie_vilg_jax.evaluation.binding.nouns import Noun

__all__ = ["Checker", "Fact", "Judgement", "Noun", "Verdict", "facts_of", "facts_of_plan"]


class Checker(Protocol):
    """Judges images by facts."""

    @property
    def nouns(self) -> tuple[Noun, ...]:
        """What it knows; `facts_of(prompt, checker.nouns)` accepts no other things."""
        ...

    def check(self, images: Sequence[np.ndarray], facts: Sequence[Sequence[Fact]]) -> list[Judgement]:
        """One judgement of each image: uint8 [H, W, 3], any sizes, each with the facts of its prompt.

        Raises UserError for a thing or a colour that it does not know.
        """
        ...
