"""How the two towers learn: pairs of features and texts, each batch's other texts as the wrong ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.evaluation.alignment.towers import LENGTH, ImageTower, TextTower


@dataclasses.dataclass(frozen=True)
class Pairs:
    """N images as features fp32 [N, views, features]; the tokens of M texts int32 [M, LENGTH]; each text's image [M];
    and each image's content [N]: images of equal content are no wrong answers for each other's texts."""

    features: np.ndarray
    tokens: np.ndarray
    image_of: np.ndarray
    content: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, texts: Sequence[np.ndarray], contents: Sequence[Hashable]) -> Pairs:
        """Args: features of N images, the tokens [m, LENGTH] of the texts of each, and what each shows."""
        numbers = {content: place for place, content in enumerate(dict.fromkeys(contents))}
        image_of = np.repeat(np.arange(len(texts)), [len(rows) for rows in texts])
        return cls(features, np.concatenate(texts), image_of, np.asarray([numbers[content] for content in contents]))


def fit(pairs: Pairs, steps: int, batch_size: int = 256, rate: float = 2e-3, seed: int = 0) -> Params:
    """Trains both towers; returns {"image", "text", "sharpness"}."""
    key = jax.random.key(seed)
    params: Params = {
        "image": ImageTower().init(key, jnp.zeros((1, *pairs.features.shape[1:])))["params"],
        "text": TextTower().init(key, jnp.zeros((1, LENGTH), jnp.int32))["params"],
        "sharpness": jnp.asarray(np.log(10.0), jnp.float32),
    }
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, min(100, steps // 10 + 1), steps, rate / 100)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.05))
    state = optimizer.init(params)
    rng = np.random.default_rng(seed)

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Params, state: Any, batch: Any, key: jax.Array) -> Any:
        (value, right), gradients = jax.value_and_grad(loss, has_aux=True)(params, *batch, key)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value, right

    for step in range(steps):
        chosen = rng.choice(len(pairs.image_of), min(batch_size, len(pairs.image_of)), replace=False)
        images = pairs.image_of[chosen]
        batch = (pairs.features[images], pairs.tokens[chosen], pairs.content[images])
        params, state, value, right = update(params, state, batch, jax.random.fold_in(key, step))
        if (step + 1) % 100 == 0:
            logging.info("update %d of %d: loss %.3f, right %.3f", step + 1, steps, float(value), float(right))
    return params


def loss(
    params: Params, features: jax.Array, words: jax.Array, content: jax.Array, dropout: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """InfoNCE in both directions, and the fraction of images whose own text is the nearest of the batch."""
    images: Any = ImageTower().apply({"params": params["image"]}, features, dropout)
    texts: Any = TextTower().apply({"params": params["text"]}, words)
    logits = jnp.exp(jnp.minimum(params["sharpness"], np.log(50.0))) * images @ texts.T
    own = jnp.eye(len(content), dtype=bool)
    logits = jnp.where((content[:, None] == content) & ~own, -1e9, logits)
    labels = jnp.arange(len(content))
    there = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    back = optax.softmax_cross_entropy_with_integer_labels(logits.T, labels).mean()
    return (there + back) / 2, (logits.argmax(1) == labels).mean()
