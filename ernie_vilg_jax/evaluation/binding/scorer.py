"""The checker as a scorer, for re-ranking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ernie_vilg_jax.evaluation.binding import Checker
from ernie_vilg_jax.evaluation.binding.drawn import WEIGHTS, DrawnChecker
from ernie_vilg_jax.evaluation.binding.grammar import facts_of


class BindingScorer:
    """The probability that an image shows all that its prompt says: that of the least probable fact."""

    name = "binding"

    def __init__(self, path: str | Path = WEIGHTS, checker: Checker | None = None) -> None:
        """Takes `checker`, or the checker of drawn shapes and emoji art with the weights in `path`."""
        self.checker: Checker = checker or DrawnChecker(path)

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """fp32 [N] in [0, 1]. Raises UserError for a prompt that `facts_of` does not understand."""
        facts = [facts_of(prompt, self.checker.nouns) for prompt in prompts]
        judgements = self.checker.check([np.asarray(image.convert("RGB")) for image in images], facts)
        return np.asarray([judged.probability for judged in judgements], np.float32)
