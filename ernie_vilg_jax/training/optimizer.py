"""AdamW and the moving average of the parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


def learning_rate(section: ConfigDict) -> optax.Schedule:
    """Linear warm-up, then fixed (the paper), then optionally a linear fall to 0 over the last `decay_steps`."""

    def rate(count: Any) -> Any:
        warm = jnp.minimum(1.0, (count + 1) / max(section.warmup_steps, 1))
        left = (section.steps - count) / section.decay_steps if section.decay_steps else 1.0
        return section.learning_rate * warm * jnp.clip(left, 0.0, 1.0)

    return rate


def make_optimizer(config: ConfigDict, section: ConfigDict) -> optax.GradientTransformation:
    """AdamW as in the paper, after clipping by the global norm (a guess; optimizer.clip_norm=0 is off)."""
    settings = config.optimizer
    clip = [optax.clip_by_global_norm(settings.clip_norm)] if settings.clip_norm else []
    adamw = optax.adamw(
        learning_rate(section), settings.b1, settings.b2, weight_decay=settings.weight_decay, mu_dtype=settings.mu_dtype
    )
    return optax.chain(*clip, adamw)


def ema_update(ema: Any, params: Any, step: jax.Array, decay: float) -> Any:
    """Moving average of `params`; the decay rises with `step` so that the start is forgotten quickly."""
    decay_now = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda e, p: e + (1.0 - decay_now) * (p - e), ema, params)
