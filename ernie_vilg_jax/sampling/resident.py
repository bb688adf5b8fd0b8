"""Resident sampling: all experts on the device, and all steps of a batch in one program."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from ernie_vilg_jax.diffusion.loop import course_of, sample
from ernie_vilg_jax.diffusion.samplers import Sampler
from ernie_vilg_jax.diffusion.schedule import Denoised
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.sampling.inputs import Inputs, OnStep, Params, Predict, unwatched


@dataclass(frozen=True)
class Resident:
    """An `Executor` of experts that are replicated on every device of the batches."""

    predict: Predict
    stages: Stages

    @cached_property
    def _batch(self) -> Any:
        """(experts, sampler, course, latents [b, ...], text, shared, key) -> clean latents [b, ...]."""

        def run(
            experts: Any, sampler: Sampler, course: Any, latents: jax.Array, text: Any, shared: Any, key: jax.Array
        ) -> jax.Array:
            def apply(params: Params, x: jax.Array, t: jax.Array) -> Denoised:
                return self.predict(params, x, t, text, shared)

            return sample(experts, apply, self.stages, sampler, latents, key, course)

        return jax.jit(run)

    def __call__(
        self, experts: Sequence[Params], sampler: Sampler, inputs: Inputs, on_step: OnStep | None = None
    ) -> jax.Array:
        """Clean latents [M, b, ...] of `inputs`, expert i in charge of stage i."""
        unwatched(on_step)
        how = sampler, course_of(self.stages, sampler.timesteps)
        return jnp.stack(
            [self._batch(experts, *how, latents, text, inputs.shared, key) for latents, text, key in inputs.batches()]
        )
