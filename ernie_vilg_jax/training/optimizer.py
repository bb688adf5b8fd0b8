"""Optimizers by name, the guard against spikes, and the moving average of the parameters."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict
from optax.contrib import MuonDimensionNumbers, muon

from ernie_vilg_jax import checks
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sharding.rules import path_of

EMA_DTYPES = ("float32", "bfloat16")
FACTOR_FROM = 128
"""Adafactor factors matrices with at least this many rows and columns; optax's default."""
MUON_RMS = 0.2
"""RMS of Muon's updates before the learning rate: about that of AdamW, so both take the same (arXiv 2502.16982)."""
ENDS = re.compile(r"^(/encoder|/decoder)?/(conv_in|conv_out|quant|post_quant)/kernel$")
"""First and last layers, which use AdamW instead of Muon, as its author advises."""
WATCH_AFTER = 100
"""Updates before the guard against spikes skips any: early gradients change by orders of magnitude."""


def learning_rate(section: ConfigDict) -> optax.Schedule:
    """Linear warm-up, then constant (the paper), then optionally a linear decay to 0 over the last `decay_steps`."""
    peak, warmup, decay = section.learning_rate, max(section.warmup_steps, 1), section.decay_steps
    then = optax.constant_schedule(peak)
    if decay:
        then = optax.linear_schedule(peak, 0.0, decay, transition_begin=max(section.steps - decay - warmup, 0))
    # The first step already has a rate above 0.
    rise = optax.linear_schedule(peak / warmup, peak, warmup - 1) if warmup > 1 else optax.constant_schedule(peak)
    return optax.join_schedules([rise, then], [warmup])


def make_optimizer(config: ConfigDict, section: ConfigDict) -> optax.GradientTransformation:
    """AdamW as in the paper, after clipping by the global norm (a guess; optimizer.clip_norm=0 is off).

    Or another of `OPTIMIZERS`, all with the same learning rate, decoupled weight decay and clipping; docs/training.md
    describes them and their state. Raises UserError naming the field that is invalid.
    """
    settings = config.optimizer
    # Configs of old checkpoints lack some fields.
    name, factor = settings.get("name", "adamw"), settings.get("spike_factor", 0.0)
    for field, value, known in (("name", name, OPTIMIZERS), ("ema_dtype", ema_dtype(config), EMA_DTYPES)):
        checks.one_of(f"--config.optimizer.{field}={value!r}", value, known)
    if factor and not 1 < factor < jnp.inf:
        raise UserError(f"--config.optimizer.spike_factor={factor} must be 0 (off) or above 1; 3 to 10 are usual")
    clip = [optax.clip_by_global_norm(settings.clip_norm)] if settings.clip_norm else []
    chain = optax.chain(*clip, OPTIMIZERS[name](learning_rate(section), settings))
    return skip_spikes(chain, factor) if factor else chain


def _adamw(rate: optax.Schedule, settings: ConfigDict) -> optax.GradientTransformation:
    decay = settings.weight_decay
    return optax.adamw(rate, settings.b1, settings.b2, weight_decay=decay, mu_dtype=settings.mu_dtype)


def _adafactor(rate: optax.Schedule, settings: ConfigDict) -> optax.GradientTransformation:
    # Without its own scaling by the size of the parameters: the rate is AdamW's (arXiv 2106.04560, section 3.5).
    return optax.adafactor(
        rate,
        min_dim_size_to_factor=FACTOR_FROM,
        multiply_by_parameter_scale=False,
        momentum=settings.b1 or None,
        dtype_momentum=settings.mu_dtype,
        weight_decay_rate=lambda count: settings.weight_decay * rate(count),
    )


def _muon(rate: optax.Schedule, settings: ConfigDict) -> optax.GradientTransformation:
    return muon(
        rate,
        weight_decay=settings.weight_decay,
        mu_dtype=settings.mu_dtype,
        adam_b1=settings.b1,
        adam_b2=settings.b2,
        adam_weight_decay=settings.weight_decay,
        muon_weight_dimension_numbers=_matrices,
        consistent_rms=MUON_RMS,
    )


OPTIMIZERS: dict[str, Callable[[optax.Schedule, ConfigDict], optax.GradientTransformation]] = {
    "adamw": _adamw,
    "adafactor": _adafactor,
    "muon": _muon,
}
"""Name -> constructor(learning rate, config.optimizer); weight decay is decoupled, and times the learning rate."""


def _matrices(params: Any) -> Any:
    """For each parameter the axes that Muon uses as rows and columns; None for parameters of AdamW."""

    def one(path: tuple[Any, ...], leaf: Any) -> MuonDimensionNumbers | None:
        name = path_of(path)
        if not name.endswith("/kernel") or ENDS.search(name):
            return None
        return MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(one, params)


class SpikeState(NamedTuple):
    norm: jax.Array
    """float32: the running mean of gradient norms."""
    updates: jax.Array
    """int32: number of updates seen."""
    skipped: jax.Array
    """int32: number of updates skipped."""
    inner: Any


def skip_spikes(optimizer: optax.GradientTransformation, factor: float) -> optax.GradientTransformation:
    """`optimizer`, except that a gradient whose norm exceeds `factor` times the running mean changes nothing.

    The mean is over about the last 100 norms, with a spike counted as `factor` times the mean: if gradients stay large,
    it follows them. The decision is made in the step, from the state alone, so a resumed run makes the same one.
    """

    def init(params: Any) -> SpikeState:
        return SpikeState(jnp.float32(0), jnp.int32(0), jnp.int32(0), optimizer.init(params))

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        norm = optax.tree.norm(grads)
        limit = jnp.where(state.updates < WATCH_AFTER, jnp.inf, factor * state.norm)
        spike = ~(norm <= limit)
        updates, inner = optimizer.update(grads, state.inner, params)
        keep = lambda old, new: jnp.where(spike, old, new)  # noqa: E731
        updates = jax.tree.map(lambda new: keep(jnp.zeros_like(new), new), updates)
        inner = jax.tree.map(keep, state.inner, inner)
        share = jnp.maximum(1 / (state.updates + 1), 1 / WATCH_AFTER)
        mean = state.norm + share * (keep(limit, norm) - state.norm)
        return updates, SpikeState(mean, state.updates + 1, state.skipped + spike, inner)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def update_ratio(updates: Any, params: Any) -> jax.Array:
    """The norm of the updates over that of the parameters, float32."""
    return optax.tree.norm(updates) / optax.tree.norm(params)


def skipped_updates(*states: Any) -> dict[str, jax.Array]:
    """{"skipped_updates": updates skipped so far, over all of these optimizers' states}; empty without the guard."""
    counts = [jnp.sum(count) for _, count in optax.tree.get_all_with_path(states, "skipped")]
    return {"skipped_updates": jnp.sum(jnp.stack(counts))} if counts else {}


def ema_dtype(config: ConfigDict) -> str:
    return config.optimizer.get("ema_dtype", "float32")


def ema_init(params: Any, dtype: str) -> Any:
    """The average before the first step: a copy of `params` in `dtype`."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, dtype, copy=True), params)


def ema_update(ema: Any, params: Any, step: jax.Array, decay: float) -> Any:
    """Moving average of `params`; the decay rises with `step` so that the start is forgotten quickly.

    An average in bfloat16 is rounded stochastically: with a decay of 0.9999 an update is far below the
    resolution of bfloat16, and rounding to the nearest would freeze the average.
    """
    step_size = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    new = optax.incremental_update(params, optax.tree.cast(ema, jnp.float32), step_size)
    leaves, structure = jax.tree.flatten(new)
    key = jax.random.fold_in(jax.random.key(0), step)
    kept = [
        leaf if old.dtype == jnp.float32 else _rounded_by_chance(leaf, jax.random.fold_in(key, index))
        for index, (leaf, old) in enumerate(zip(leaves, jax.tree.leaves(ema), strict=True))
    ]
    return jax.tree.unflatten(structure, kept)


def _rounded_by_chance(x: jax.Array, key: jax.Array) -> jax.Array:
    """float32 to bfloat16 by stochastic rounding: up or down with probabilities such that the mean is x."""
    chance = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + chance
    return jax.lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), jnp.bfloat16)
