"""Classifier-free guidance (https://arxiv.org/abs/2207.12598): extrapolates from the prediction without prompt.

ERNIE-ViLG 2.0 reports its best FID at a scale of 2.1.

    Guidance   the user's settings: Python numbers, checked
       | .numbers(stages)
    Numbers    the same as arrays for a compiled program; changing them does not recompile
       | guided(network, text, null_text, numbers, schedule, kind)
    Predict    what a sampler sees
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ernie_vilg_jax.diffusion.schedule import Denoised, Kind, Schedule
from ernie_vilg_jax.diffusion.stages import Stages

Predict = Callable[[jax.Array, jax.Array], Denoised]
"""predict(x [B, ...], t int32 [B] or scalar) -> (x0, epsilon) [B, ...]: all that a sampler sees of a model."""


class Numbers(NamedTuple):
    """Guidance as input of a compiled program. None is left out of the program; the rest may be traced."""

    scale: Any
    """float32: a scalar, or [T], one for each timestep. None: only the conditional half runs."""
    rescale: Any = None
    """float32 scalar."""
    dynamic_threshold: Any = None
    """float32 scalar."""


@dataclass(frozen=True)
class Guidance:
    """How strongly images follow their prompts, and remedies for the artefacts of a large scale.

    At each timestep t: p = p_null + scale(t) * (p_text - p_null), then `rescale`, then `dynamic_threshold`. p is the
    network's prediction: epsilon, v and x0 are linear in each other, so guidance of one is guidance of all.
    Ranges are checked where users set them (`sampling_params`).
    """

    scale: float = 2.1
    """1 is the plain conditional model, and costs half; larger follows the prompt more closely."""
    interval: tuple[int, ...] | None = None
    """(low, high): guidance only for timesteps low <= t < high, and scale 1 elsewhere; None is everywhere. At the
    noisiest timesteps guidance gains little and loses diversity (https://arxiv.org/abs/2404.07724)."""
    rescale: float = 0.0
    """phi in [0, 1]: the share of the added contrast that is removed; 0 is off, 0.7 is usual.
    (https://arxiv.org/abs/2305.08891, section 3.4: the guided prediction of v is brought to the standard deviation
    of the conditional one, sample by sample, and phi mixes the two.)"""
    dynamic_threshold: float = 0.0
    """Percentile, in (0, 100]: the estimated x0 of a sample is clipped at this percentile of its absolute values, and
    divided by it if it is above 1; 0 is off, 99.5 is usual. (Imagen, https://arxiv.org/abs/2205.11487, section 2.3.)
    Meant for pixels in [-1, 1]: valid unit-variance latents often exceed 1, and lose contrast."""
    stage_scales: tuple[float, ...] = ()
    """A scale for each stage, stage 0 (the least noisy) first, in place of `scale`; () is the same in all."""

    def __post_init__(self) -> None:
        if self.interval is None:
            return
        whole = len(self.interval) == 2 and all(isinstance(t, int | np.integer) for t in self.interval)
        if not whole or not 0 <= self.interval[0] < self.interval[1]:
            raise ValueError(
                f"guidance_interval: {self.interval} must be two timesteps, the lower first, such as (200, 900); "
                "for guidance at all timesteps leave it out"
            )

    def numbers(self, stages: Stages) -> Numbers:
        """For programs over the timesteps of `stages`; guidance without effect is left out.

        Raises ValueError if the numbers of stages and scales differ, or the interval does not fit.
        """
        total = stages.num_timesteps
        if self.stage_scales and len(self.stage_scales) != stages.n:
            raise ValueError(
                f"stage_scales: {len(self.stage_scales)} scales were given, but the model has {stages.n} "
                "stages; give one for each, stage 0 (the least noisy) first"
            )
        if self.interval is not None and self.interval[1] > total:
            raise ValueError(
                f"guidance_interval: {self.interval} must end at {total}, the number of timesteps, or before"
            )
        scale: Any = np.float32(self.scale)
        if self.stage_scales or self.interval is not None:
            timesteps = np.arange(total)
            scale = np.full(total, self.scale, np.float32)
            if self.stage_scales:
                scale = np.asarray(self.stage_scales, np.float32)[stages.stage_of(timesteps)]
            if self.interval is not None:
                low, high = self.interval
                scale[(timesteps < low) | (timesteps >= high)] = 1.0
        unguided = bool(np.all(scale == 1))
        return Numbers(
            scale=None if unguided else scale,
            rescale=np.float32(self.rescale) if self.rescale and not unguided else None,
            dynamic_threshold=np.float32(self.dynamic_threshold) if self.dynamic_threshold else None,
        )


def guided(
    network: Callable[[jax.Array, jax.Array, Any], jax.Array],
    text: Any,
    null_text: Any,
    guidance: float | jax.Array | Numbers,
    schedule: Schedule,
    kind: Kind = "epsilon",
) -> Predict:
    """A sampler's `predict` for the guided prediction `p_null + scale * (p_text - p_null)`, from one call on [2B].

    Args:
      network: network(x [B', ...], t int32 [B'], text) -> its prediction of `kind`, [B', ...].
      text: pytree of arrays [B, ...], the encoded prompts.
      null_text: pytree like `text`, of the empty prompt, or of negative prompts, one for each sample; leaves may be
        [1, ...] and are then shared by the batch.
      guidance: `Numbers`; or the scale alone: a Python number, a scalar array (traced or not) or [B]. The Python number
        1 means "no guidance": only the conditional half runs.
      schedule: that of training.

    Returns:
      predict(x [B, ...], t scalar or [B]) -> (x0, epsilon), float32 [B, ...].
    """
    if isinstance(guidance, Numbers):
        table, rescale, percentile = guidance
        unguided = table is None
        by_time = not unguided and jnp.ndim(table) == 1
    else:
        table, rescale, percentile = guidance, None, None
        unguided = isinstance(guidance, int | float) and guidance == 1
        by_time = False

    def predict(x: jax.Array, t: jax.Array) -> Denoised:
        t = _per_sample(t, x)
        if unguided:
            prediction, now = network(x, t, text), kind
        else:
            both = jax.tree.map(_join, null_text, text)
            prediction = network(jnp.concatenate([x, x]), jnp.concatenate([t, t]), both).astype(jnp.float32)
            without, with_text = jnp.split(prediction, 2)
            scale = jnp.asarray(table, jnp.float32)
            scale = scale[t] if by_time else scale
            if scale.ndim:
                scale = scale.reshape((-1,) + (1,) * (x.ndim - 1))
            prediction, now = without + scale * (with_text - without), kind
            if rescale is not None:
                v, aim = (schedule.to_v(x, one, t, kind) for one in (prediction, with_text))
                prediction, now = _rescaled(v, aim, rescale), "v"
        if percentile is not None:
            prediction, now = _thresholded(schedule.to_x0(x, prediction, t, now), percentile), "x0"
        return schedule.denoised(x, prediction, t, now)

    return predict


def _rescaled(v: jax.Array, aim: jax.Array, phi: jax.Array) -> jax.Array:
    """v moved by the share phi towards the standard deviation of `aim`, sample by sample."""
    axes = tuple(range(1, v.ndim))
    deviation, wanted = (jnp.std(one, axis=axes, keepdims=True) for one in (v, aim))
    return v * (phi * wanted / jnp.where(deviation > 0, deviation, 1.0) + (1 - phi))


def _thresholded(x0: jax.Array, percentile: jax.Array) -> jax.Array:
    bound = jnp.percentile(jnp.abs(x0), percentile, axis=tuple(range(1, x0.ndim)), keepdims=True)
    bound = jnp.maximum(bound, 1.0)
    return jnp.clip(x0, -bound, bound) / bound


def _per_sample(t: jax.typing.ArrayLike, x: jax.Array) -> jax.Array:
    return jnp.broadcast_to(jnp.asarray(t), (x.shape[0],))


def _join(null: jax.Array, text: jax.Array) -> jax.Array:
    return jnp.concatenate([jnp.broadcast_to(null, text.shape).astype(text.dtype), text])
