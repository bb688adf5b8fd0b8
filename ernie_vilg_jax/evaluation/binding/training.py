"""How the checker learns: both networks in one update, on scenes that are blurred and shaded anew each time."""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.evaluation.binding.drawing import ANY, EMPTY
from ernie_vilg_jax.evaluation.binding.network import CELLS, Centres, Finder, Namer, cut_out
from ernie_vilg_jax.evaluation.binding.nouns import PALETTE
from ernie_vilg_jax.evaluation.binding.scene_files import Scenes
from ernie_vilg_jax.evaluation.binding.sprites import NONE

CROPS = 2
"""Cut-outs per scene and update."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """`steps` updates if that is positive, else as many as fit in `seconds`."""

    batch_size: int = 64
    steps: int = 0
    seconds: float = 1500
    learning_rate: float = 2e-3
    average: float = 0.998
    seed: int = 0
    log_every: int = 50


OPTIMIZER = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.inject_hyperparams(optax.adamw)(learning_rate=0.0, b2=0.98, weight_decay=0.02),
)


class Batch(NamedTuple):
    """Scenes on the device; see `scene_files.Scenes`."""

    image: jax.Array
    boxes: jax.Array
    noun: jax.Array
    colour: jax.Array


def fit(scenes: Scenes, nouns: int, settings: Settings, first: Params | None = None) -> Params:
    """Trains, from `first` or from scratch; returns the moving average of the parameters, {"finder", "namer"}."""
    key = jax.random.key(settings.seed)
    params = init(key, nouns)
    if first is not None:
        params = {name: jax.tree.map(jnp.array, first[name]) for name in params}
    state, average = _start(params)
    start, step, order = time.monotonic(), 0, np.zeros(0, np.int64)
    rng = np.random.default_rng(settings.seed)
    logs: list[dict[str, jax.Array]] = []
    while True:
        elapsed = time.monotonic() - start
        progress = step / settings.steps if settings.steps else elapsed / settings.seconds
        if progress >= 1:
            return average
        if len(order) < settings.batch_size:
            order = np.concatenate([order, rng.permutation(len(scenes.noun))])
        chosen, order = np.sort(order[: settings.batch_size]), order[settings.batch_size :]
        batch = Batch(scenes.image[chosen], scenes.boxes[chosen], scenes.noun[chosen], scenes.colour[chosen])  # type: ignore[arg-type]
        values = jnp.asarray([progress, step, settings.learning_rate, settings.average], jnp.float32)
        params, state, average, log = _update(
            params, state, average, batch, values, jax.random.fold_in(key, step), nouns=nouns
        )
        logs.append(log)
        step += 1
        if step % settings.log_every == 0:
            mean = {name: float(np.mean([float(entry[name]) for entry in logs])) for name in log}
            text = ", ".join(f"{name} {value:.4f}" for name, value in mean.items())
            logging.info("update %d, %.0f s, %.0f %%: %s", step, elapsed, 100 * progress, text)
            logs = []


@partial(jax.jit, static_argnames="nouns")
def init(key: jax.Array, nouns: int) -> Params:
    """Fresh parameters of both networks, {"finder", "namer"}."""
    finder, namer = jax.random.split(key)
    return {
        "finder": Finder().init(finder, jnp.zeros((1, 64, 64, 3)))["params"],
        "namer": Namer(nouns, len(PALETTE)).init(namer, jnp.zeros((1, 32, 32, 3)))["params"],
    }


@jax.jit
def _start(params: Params) -> tuple[Any, Params]:
    """The optimizer's state before the first update, and the average in its own memory."""
    return OPTIMIZER.init(params), jax.tree.map(jnp.copy, params)


@partial(jax.jit, static_argnames="nouns", donate_argnums=(0, 1, 2))
def _update(
    params: Params,
    state: Any,
    average: Params,
    batch: Batch,
    values: jax.Array,
    key: jax.Array,
    *,
    nouns: int,
) -> tuple[Params, Any, Params, dict[str, jax.Array]]:
    """One update; `values` are progress in [0, 1], the number of the step, the highest rate and the average's decay."""
    progress, step, highest, decay = values
    rate = highest * jnp.minimum(1, (step + 1) / 100) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
    state[1].hyperparams["learning_rate"] = rate
    gradients, log = jax.grad(partial(loss, nouns=nouns), has_aux=True)(params, batch, key)
    updates, state = OPTIMIZER.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    decay = jnp.minimum(decay, (step + 1) / (step + 10))
    average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params)
    return params, state, average, log


def loss(params: Params, batch: Batch, key: jax.Array, *, nouns: int) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Sum of the two networks' losses on degraded images, and its parts."""
    degraded, crops = jax.random.split(key)
    images = degrade(batch.image, degraded)
    centres: Centres = Finder().apply({"params": params["finder"]}, images)  # type: ignore[assignment]
    heat, box = finding_loss(centres, batch.boxes, batch.noun > EMPTY)
    noun, colour, right = _naming_loss(params["namer"], images, batch, crops, nouns)
    log = {"heat": heat, "box": box, "noun": noun, "colour": colour, "right": right}
    return heat + box + noun + 0.5 * colour, log


def degrade(images: jax.Array, key: jax.Array) -> jax.Array:
    """uint8 [B, H, W, 3] -> fp32 in about [-1, 1]: contrast, tint, blur and noise, each of half of the images."""
    keys = jax.random.split(key, 5)
    count = images.shape[0]

    def some(key: jax.Array, low: float, high: float, off: float, shape: tuple[int, ...] = ()) -> jax.Array:
        use, amount = jax.random.split(key)
        value = jax.random.uniform(amount, (count, *shape), minval=low, maxval=high)
        return jnp.where(jax.random.bernoulli(use, 0.5, (count, *[1] * len(shape))), value, off)

    x = images.astype(jnp.float32) / 127.5 - 1
    x = x * some(keys[0], 0.75, 1.05, 1.0)[:, None, None, None] + some(keys[1], -0.06, 0.06, 0.0, (3,))[:, None, None]
    width = some(keys[2], 0.3, 1.8, 0.01)
    distance = jnp.square(jnp.arange(64)[:, None] - jnp.arange(64)).astype(jnp.float32)
    kernel = jnp.exp(-0.5 * distance / jnp.square(width)[:, None, None])
    kernel = kernel / kernel.sum(-1, keepdims=True)
    x = jnp.einsum("bih,bhwc,bjw->bijc", kernel, x, kernel)
    noise = jax.random.normal(keys[4], x.shape)
    return x + some(keys[3], 0.0, 0.12, 0.0)[:, None, None, None] * noise


def finding_loss(centres: Centres, boxes: jax.Array, used: jax.Array) -> tuple[jax.Array, jax.Array]:
    """CenterNet's focal loss of the heat map, and L1 of offset and size near centres, per thing."""
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2 * CELLS - 0.5  # in cells
    side = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 1 / 64)
    grid = jnp.stack(jnp.meshgrid(jnp.arange(CELLS), jnp.arange(CELLS), indexing="xy"), -1)
    away = middle[:, None, None] - grid[None, :, :, None]  # [B, y, x, MOST, 2]
    spread = jnp.maximum(0.12 * side.max(-1) * CELLS, 0.5)[:, None, None]
    near = jnp.exp(-jnp.square(away).sum(-1) / (2 * jnp.square(spread))) * used[:, None, None]
    nearest = near.argmax(-1)
    target = near.max(-1)
    exact = ((jnp.abs(away).max(-1) <= 0.5) & used[:, None, None]).any(-1)
    positive = jax.nn.log_sigmoid(centres.logit)
    negative = jax.nn.log_sigmoid(-centres.logit)
    p = jnp.exp(positive)
    heat = jnp.where(exact, -jnp.square(1 - p) * positive, -((1 - target) ** 4) * jnp.square(p) * negative)
    things = jnp.maximum(used.sum(), 1)

    weight = jnp.where(target > 0.3, target, 0.0)[..., None]
    offset = jnp.take_along_axis(away, nearest[..., None, None], 3)[..., 0, :]
    log_side = jnp.take_along_axis(jnp.log(side)[:, None, None], nearest[..., None, None], 3)[..., 0, :]
    error = 0.3 * jnp.abs(centres.offset - offset) + jnp.abs(centres.log_side - log_side)
    return heat.sum() / things, (weight * error).sum() / jnp.maximum(weight.sum(), 1)


def _naming_loss(
    params: Params, images: jax.Array, batch: Batch, key: jax.Array, nouns: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Cross-entropies of noun and colour, and the fraction of nouns named right, on CROPS boxes of each scene."""
    pick, shift = jax.random.split(key)
    chance = jnp.where(batch.noun > EMPTY, 0.0, -1e9)[:, None]
    place = jax.random.categorical(pick, jnp.repeat(chance, CROPS, 1), axis=-1)  # [B, CROPS]
    noun = jnp.take_along_axis(batch.noun, place, 1).reshape(-1).astype(jnp.int32)
    colour = jnp.take_along_axis(batch.colour, place, 1).reshape(-1).astype(jnp.int32)
    boxes = jnp.take_along_axis(batch.boxes, place[..., None], 1).reshape(-1, 4)
    sides = jnp.tile(boxes[:, 2:] - boxes[:, :2], (1, 2))
    boxes = boxes + 0.07 * sides * jax.random.truncated_normal(shift, -2.0, 2.0, boxes.shape)
    crops = cut_out(jnp.repeat(images, CROPS, 0), boxes)
    names: Any = Namer(nouns, len(PALETTE)).apply({"params": params}, crops)
    used = noun > EMPTY
    noun = jnp.where(noun == NONE, nouns, noun)
    wrong = optax.softmax_cross_entropy_with_integer_labels(names.noun, jnp.maximum(noun, 0))
    right = (names.noun.argmax(-1) == noun) & used
    coloured = used & (colour > ANY)
    tint = optax.softmax_cross_entropy_with_integer_labels(names.colour, jnp.maximum(colour, 0))
    count, tinted = jnp.maximum(used.sum(), 1), jnp.maximum(coloured.sum(), 1)
    return (wrong * used).sum() / count, (tint * coloured).sum() / tinted, right.sum() / count
