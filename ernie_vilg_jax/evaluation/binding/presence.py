"""How likely a thing stands at a peak of the heat map: Platt scaling of its logit."""

from __future__ import annotations

import jax
import numpy as np

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.evaluation.binding.drawing import EMPTY
from ernie_vilg_jax.evaluation.binding.drawn import BATCH, OVERLAP, find, overlap
from ernie_vilg_jax.evaluation.binding.scene_files import Scenes
from ernie_vilg_jax.evaluation.binding.training import degrade

UNSCALED = np.asarray([1.0, 0.0], np.float32)


def fit_presence(params: Params, scenes: Scenes, count: int = 2048, seed: int = 1) -> np.ndarray:
    """(scale, shift) of a peak's logit, fp32 [2], fitted on the first `count` scenes, degraded as in training."""
    logits: list[float] = []
    right: list[bool] = []
    degraded = jax.jit(degrade)
    for start in range(0, min(count, len(scenes.noun)), BATCH):
        part = slice(start, min(start + BATCH, count, len(scenes.noun)))
        images = np.asarray(degraded(scenes.image[part], jax.random.fold_in(jax.random.key(seed), start)))
        pixels = (np.clip(images, -1, 1) + 1) * 127.5
        several = find({**params, "presence": UNSCALED}, pixels)
        for found, boxes, noun in zip(several, scenes.boxes[part], scenes.noun[part], strict=True):
            things = boxes[noun > EMPTY]
            logits += found.logit.tolist()
            right += [any(overlap(box, thing) >= OVERLAP for thing in things) for box in found.boxes]
    return logistic(np.asarray(logits), np.asarray(right))


def logistic(x: np.ndarray, y: np.ndarray, ridge: float = 1e-2, steps: int = 30) -> np.ndarray:
    """(scale, shift) of the most likely P(y) = sigmoid(scale * x + shift), by Newton's method, fp32 [2].

    `ridge` keeps the scale finite if the two classes are separable.
    """
    design = np.stack([x, np.ones_like(x)], -1)
    weight = np.zeros(2)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-design @ weight))
        gradient = design.T @ (p - y) + ridge * weight
        hessian = (design * (p * (1 - p))[:, None]).T @ design + ridge * np.eye(2)
        weight = weight - np.linalg.solve(hessian, gradient)
    return weight.astype(np.float32)
