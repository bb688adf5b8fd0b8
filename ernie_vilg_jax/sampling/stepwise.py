"""Sampling one step at a time, so that Python runs in between: for progress, previews and attention maps.

    process  | step 0 | step 1 | on_step(0) | step 2 | on_step(1) | ...
    device   |        | 0 .......... | 1 .......... | 2 .......... |

The next step is dispatched before `on_step` is called, so that the device does not wait for it. The results equal those
of the program with all steps. That program does not change: this one is compiled only when requested.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ernie_vilg_jax.diffusion.loop import run_step
from ernie_vilg_jax.diffusion.samplers import Sampler
from ernie_vilg_jax.diffusion.schedule import Denoised
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.sampling.inputs import Inputs, OnStep, Params, Predict, Step
from ernie_vilg_jax.sampling.streamed import finish, start
from ernie_vilg_jax.sampling.turns import LazyParams, Turns


@dataclass(frozen=True)
class Stepped:
    """An `Executor` that calls `on_step` after each step.

    Experts are on their devices already, or with `streamed` fetched for their stage and freed after it.
    """

    predict: Predict
    stages: Stages
    mesh: Mesh | None = None
    streamed: bool = False
    prefetch: bool = True
    look: Callable[[Params, jax.Array, jax.Array, Any, Any], Any] | None = None
    """look(params, x, t, text, shared) -> pytree: called before each step with the current expert; for `Step.seen`."""

    @cached_property
    def step(self) -> Any:
        """step(params, sampler, carry, text, shared, key, i) -> (carry, x0, seen), the carry in the same memory."""

        def run(
            params: Params, sampler: Sampler, carry: Any, text: Any, shared: Any, key: jax.Array, i: jax.Array
        ) -> Any:
            # A sampler may call `predict` inside its own loop, so the prediction is kept in a mutable array.
            x0 = jax.new_ref(jnp.zeros_like(carry.x))

            def apply(params: Params, x: jax.Array, t: jax.Array) -> Denoised:
                denoised = self.predict(params, x, t, text, shared)
                x0[...] = denoised.x0
                return denoised

            t = jnp.broadcast_to(jnp.asarray(sampler.timesteps)[i], carry.x.shape[:1])
            seen = None if self.look is None else self.look(params, carry.x, t, text, shared)
            carry = run_step(params, apply, sampler, carry, i, key)
            return carry, x0[...], seen

        return jax.jit(run, donate_argnums=2)

    def __call__(
        self, experts: Sequence[LazyParams], sampler: Sampler, inputs: Inputs, on_step: OnStep | None = None
    ) -> jax.Array:
        """Clean latents [M, b, ...] of `inputs`, expert i in charge of stage i. An exception in `on_step` ends it."""
        tables = jax.device_put(sampler)  # once, not at each step
        carries, done = [start(tables, latents) for latents in inputs.latents], None
        moves = {"moves": self.streamed, "prefetch": self.prefetch}
        with Turns(experts, self.stages, sampler, self.mesh, **moves) as turns:
            for expert, stage, first, end in turns:
                for i in range(first, end):
                    results = [
                        self.step(expert, tables, carry, text, inputs.shared, key, i)
                        for carry, (_, text, key) in zip(carries, inputs.batches(), strict=True)
                    ]
                    carries, x0, seen = map(list, zip(*results, strict=True))
                    turns.ahead()
                    _report(done, on_step)
                    done = Step(i, int(sampler.timesteps[i]), stage, x0, seen)
                if self.streamed:
                    jax.block_until_ready(carries)
        _report(done, on_step)
        return finish(tables, carries)


def _report(step: Step | None, on_step: OnStep | None) -> None:
    if step is not None and on_step is not None:
        jax.block_until_ready(step.x0)
        on_step(step)
