"""Images with sentences, for the alignment scorer to learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import logging
from PIL import Image, ImageFilter

from ernie_vilg_jax.evaluation.alignment.learning import Pairs
from ernie_vilg_jax.evaluation.alignment.towers import tokens
from ernie_vilg_jax.evaluation.binding.drawn import DrawnChecker
from ernie_vilg_jax.evaluation.binding.renders import Render, counted, scenes
from ernie_vilg_jax.evaluation.binding.round_trip import quiet_load, round_trip
from ernie_vilg_jax.evaluation.binding.sentences import sentences
from ernie_vilg_jax.evaluation.binding.sprites import STYLES


def make_examples(checker: DrawnChecker, looks: Sequence[str], count: int, seed: int) -> Pairs:
    """`count` renders of each look, three quarters of them scenes, one quarter counted things."""
    renders: list[Render] = []
    for look in looks:
        made = scenes(look, checker.nouns, STYLES, seed, 3 * count // 4)
        renders += [render for render in made if len(render.mentions) < 3]
        renders += [counted(look, checker.nouns, STYLES, seed, index) for index in range(count // 4)]
    logging.info("%d renders", len(renders))
    images = soften([render.image for render in renders], seed)
    nouns = {noun.en: noun for noun in checker.nouns}
    texts = [
        tokens([text for several in sentences(r.mentions, r.relation, nouns).values() for text in several])
        for r in renders
    ]
    return Pairs.of(checker.features(images), texts, [(render.mentions, render.relation) for render in renders])


def soften(images: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """Uint8 [64, 64, 3]: a third as they are, a third blurred, a third through the demo's autoencoder."""
    rng = np.random.default_rng(seed)
    passed = round_trip(quiet_load())
    results: list[np.ndarray] = []
    for start in range(0, len(images), 64):
        part = list(images[start : start + 64])
        through = passed(np.stack([*part, *[part[0]] * (64 - len(part))]))
        for k, image in enumerate(part):
            kind = rng.integers(3)
            if kind == 1:
                blur = ImageFilter.GaussianBlur(rng.uniform(0.4, 1.6))
                image = np.asarray(Image.fromarray(image).filter(blur))
            results.append(through[k] if kind == 2 else image)
    return results
