"""Streamed sampling: one expert on the device, the next in transfer (`turns.py` has the drawing).

All batches finish a stage before the next expert is used, so a call moves each expert once, whatever its number of
images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ernie_vilg_jax.diffusion.loop import run_stage
from ernie_vilg_jax.diffusion.samplers import Sampler
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.sampling.inputs import Inputs, OnStep, Params, Predict, unwatched
from ernie_vilg_jax.sampling.turns import LazyParams, Turns


@jax.jit
def start(sampler: Sampler, latents: jax.Array) -> Any:
    """The carry of latents [b, ...], in its own memory: the steps overwrite it, but not the noise."""
    return jax.tree.map(jnp.copy, sampler.init(latents))


@jax.jit
def finish(sampler: Sampler, carries: list[Any]) -> jax.Array:
    """Clean latents [M, b, ...] of M carries."""
    return jnp.stack([sampler.finish(carry) for carry in carries])


@dataclass(frozen=True)
class Streamed:
    """An `Executor` with at most two experts on the device, one without `prefetch`, and one program for all stages.

    `prefetch` is for sources outside the device. Gathering from a mesh keeps the chips busy, so there a prefetch would
    cost an expert's memory and save no time.
    """

    predict: Predict
    stages: Stages
    mesh: Mesh | None = None
    prefetch: bool = True

    @cached_property
    def stage(self) -> Any:
        """stage(params, sampler, carry, text, shared, key, first, end) -> carry, in the same memory."""

        def run(
            params: Params, sampler: Sampler, carry: Any, text: Any, shared: Any, key: jax.Array, first: Any, end: Any
        ) -> Any:
            apply = lambda params, x, t: self.predict(params, x, t, text, shared)  # noqa: E731
            return run_stage(params, apply, sampler, carry, first, end, key)

        return jax.jit(run, donate_argnums=2)

    def __call__(
        self, experts: Sequence[LazyParams], sampler: Sampler, inputs: Inputs, on_step: OnStep | None = None
    ) -> jax.Array:
        """Clean latents [M, b, ...] of `inputs`, expert i in charge of stage i."""
        unwatched(on_step)
        carries = [start(sampler, latents) for latents in inputs.latents]
        with Turns(experts, self.stages, sampler, self.mesh, prefetch=self.prefetch) as turns:
            for expert, _, first, end in turns:
                # Dispatched asynchronously: the process continues with the next expert.
                carries = [
                    self.stage(expert, sampler, carry, text, inputs.shared, key, first, end)
                    for carry, (_, text, key) in zip(carries, inputs.batches(), strict=True)
                ]
                turns.ahead()
                jax.block_until_ready(carries)
        return finish(sampler, carries)
