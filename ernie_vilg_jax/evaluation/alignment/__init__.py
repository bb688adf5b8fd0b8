"""How well an image fits a prompt of the demo's domain, Chinese or English. Not CLIP: it knows the demo's things only.

scorer = CosineScorer(AlignmentNetwork())
scores = scorer(images, ["一只猫", "a red circle above a blue square"])

towers   images and texts to one space: two small networks
network  them with trained weights
train    makes the weights
recall   how often the right text is the nearest
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ernie_vilg_jax.evaluation.features import TextNetwork
from ernie_vilg_jax.evaluation.statistics import cosines


class Scorer(Protocol):
    """Images uint8 [H, W, 3], any sizes, and the prompt of each -> fp32 [N]; higher is better."""

    def __call__(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray: ...


class CosineScorer:
    """A `Scorer`: the cosine of image and prompt in the space of a network, in [-1, 1]."""

    def __init__(self, network: TextNetwork) -> None:
        self.network = network

    def __call__(self, images: Sequence[np.ndarray], prompts: Sequence[str]) -> np.ndarray:
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} images and {len(prompts)} prompts: each image needs its prompt")
        return cosines(self.network(images), self.network.texts(prompts))
