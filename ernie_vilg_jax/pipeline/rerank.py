"""Re-ranking: several candidates of each image are made, and a scorer keeps the best (paper, section 4.2)."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from ernie_vilg_jax.errors import UserError


class Scorer(Protocol):
    """How well images show their prompts.

    Attributes:
      name: of the scorer, for the metadata of images.
    """

    name: str

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """A number [N] for each image [N] and its prompt [N]; more is better."""
        ...


def check_scorer(candidates: int, scorer: Scorer | None) -> None:
    """Raises UserError if there are candidates and nothing that could choose."""
    if candidates > 1 and scorer is None:
        raise UserError(
            f"candidates={candidates}: a scorer has to say which of them is best; give one with rerank=, or "
            "candidates=1"
        )


def best_of(
    images: Sequence[Image.Image], prompts: Sequence[str], candidates: int, scorer: Scorer
) -> list[Image.Image]:
    """The best of every `candidates` neighbouring images; its `info` has its score and the scorer's name.

    Args:
      images, prompts: [N * candidates]; neighbours have one prompt.

    Raises UserError if the scorer returns something else than a finite number for each image.
    """
    scores = np.asarray(scorer(images, prompts), np.float64)
    if scores.shape != (len(images),) or not np.isfinite(scores).all():
        raise UserError(f"rerank={scorer.name}: it must return one finite number for each of {len(images)} images")
    kept = []
    for start in range(0, len(images), candidates):
        chosen = start + int(np.argmax(scores[start : start + candidates]))
        images[chosen].info.update(rerank=scorer.name, score=round(float(scores[chosen]), 6))
        kept.append(images[chosen])
    return kept
