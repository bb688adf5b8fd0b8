r"""Trains the network that tells the looks of composed scenes apart; writes one .safetensors file.

  python -m ernie_vilg_jax.evaluation.looks.train --output=looks.safetensors

The scenes are drawn here; a third of them passes the demo's autoencoder, and all are blurred and shaded as for the
binding checker. At the end it says how often the network is right on other scenes: as drawn, and through the
autoencoder. The emoji art is fetched from the npm registry once. Some ten minutes on two cores.
"""

from __future__ import annotations

import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags, logging

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.binding import weights
from ernie_vilg_jax.evaluation.binding.nouns import Noun
from ernie_vilg_jax.evaluation.binding.round_trip import quiet_load, round_trip
from ernie_vilg_jax.evaluation.binding.training import degrade
from ernie_vilg_jax.evaluation.looks import BATCH, KEYS, Looks, Network
from ernie_vilg_jax.preparation.sources.composed.painting import paint
from ernie_vilg_jax.preparation.sources.composed.source import ComposedSource
from ernie_vilg_jax.preparation.sources.composed.vocabulary import ART, LOOKS, THINGS

SIDE = 64
TESTED = 900
"""Scenes that it is tested on."""

_OUTPUT = flags.DEFINE_string("output", "looks.safetensors", "where the weights go")
_SCENES = flags.DEFINE_integer("scenes", 18_000, "scenes to learn from", lower_bound=BATCH)
_STEPS = flags.DEFINE_integer("steps", 1500, "updates", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 3, "seed of scenes and training")


def main(argv: list[str]) -> None:
    del argv
    output = Path(_OUTPUT.value)
    if output.suffix != ".safetensors" or not output.parent.is_dir():
        raise UserError(f"--output={output} must be a .safetensors file in an existing folder")
    through = round_trip(quiet_load())
    images, labels = draw_scenes(_SEED.value, _SCENES.value)
    logging.info("%d scenes drawn", len(images))
    soft = np.random.default_rng(_SEED.value).random(len(images)) < 1 / 3
    images[soft] = _passed(through, images[soft])
    params = fit(images, labels, _STEPS.value, _SEED.value)
    weights.write(output, {"looks": params}, [Noun(key, LOOKS[key].zh_styles[0]) for key in KEYS])
    looks = Looks(output)
    images, labels = draw_scenes(_SEED.value + 1, TESTED)
    for how, shown in (("as drawn", images), ("through the autoencoder", _passed(through, images))):
        right = np.asarray([KEYS.index(look) for look in looks(list(shown))]) == labels
        each = ", ".join(f"{key} {100 * right[labels == k].mean():.0f}" for k, key in enumerate(KEYS))
        print(f"{how}: {100 * right.mean():.1f} % of {len(right)} scenes ({each})")


def draw_scenes(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Scenes uint8 [N, SIDE, SIDE, 3] and the places of their looks in KEYS [N], about as many of each look.

    Art styles do not change drawn shapes, so that scenes of shapes alone have no such look.
    """
    source, wanted, index = ComposedSource(seed=seed), -(-count // len(KEYS)), 0
    images: list[np.ndarray] = []
    labels: list[int] = []
    while len(images) < count:
        plan, draw = source.plan(index), random.Random(f"looks/{seed}/{index}")
        index += 1
        drawn = plan.look in ART and all(THINGS[part.thing].shape for part in plan.parts)
        if not drawn and labels.count(KEYS.index(plan.look)) < wanted:
            images.append(np.asarray(paint(plan, SIDE, draw)[0]))
            labels.append(KEYS.index(plan.look))
    return np.stack(images), np.asarray(labels)


def _passed(through: Any, images: np.ndarray) -> np.ndarray:
    """All images through the autoencoder, in batches of one size."""
    padded = np.pad(images, [(0, -len(images) % BATCH), (0, 0), (0, 0), (0, 0)])
    return np.concatenate([through(padded[k : k + BATCH]) for k in range(0, len(padded), BATCH)])[: len(images)]


def fit(images: np.ndarray, labels: np.ndarray, steps: int, seed: int) -> Params:
    """Parameters of `Network`, trained by AdamW on degraded images with a rate that falls along a cosine."""
    key = jax.random.key(seed)
    params = Network().init(key, jnp.zeros((1, SIDE, SIDE, 3)))["params"]
    schedule = optax.schedules.cosine_decay_schedule(2e-3, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.02))

    def loss(params: Params, x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits: Any = Network().apply({"params": params}, degrade(x, key))
        wrong = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return wrong.mean(), (logits.argmax(-1) == y).mean()

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Params, state: Any, x: jax.Array, y: jax.Array, key: jax.Array) -> Any:
        (_, right), gradients = jax.value_and_grad(loss, has_aux=True)(params, x, y, key)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, right

    state, rng, seen = optimizer.init(params), np.random.default_rng(seed), []
    for step in range(steps):
        chosen = rng.integers(len(images), size=BATCH)
        params, state, right = update(params, state, images[chosen], labels[chosen], jax.random.fold_in(key, step))
        seen.append(right)
        if (step + 1) % 100 == 0:
            logging.info("update %d of %d: right %.3f", step + 1, steps, float(np.mean(seen[-100:])))
    return params


def run() -> None:
    try:
        app.run(main)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    run()
