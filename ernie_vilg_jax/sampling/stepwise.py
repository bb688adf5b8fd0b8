"""Sampling one step at a time, so that the host can look in between: for progress, previews and attention maps.

    host     | step 0 | step 1 | on_step(0) | step 2 | on_step(1) | ...
    device   |        | 0 .......... | 1 .......... | 2 .......... |

The step after is queued before anyone looks, so the device does not wait for whoever looks. The numbers are those of
the program that holds all steps; it is left alone, and this one is compiled only for who asks.

Experts are used where they are (resident), or fetched for their stage and freed after it (streamed).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ernie_vilg_jax.diffusion.loop import run_step, visits
from ernie_vilg_jax.diffusion.samplers import Sampler
from ernie_vilg_jax.diffusion.schedule import Denoised
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.sampling.inputs import Inputs, Params, Predict
from ernie_vilg_jax.sampling.streamed import LazyParams, fetch, finishing, release, starting


class Step(NamedTuple):
    """A step that has been done."""

    index: int
    timestep: int
    """At which the step began."""
    stage: int
    """Whose expert did it."""
    x0: list[jax.Array]
    """M batches [b, ...]: the clean latents that the expert's last prediction in the step implies."""
    seen: list[Any]
    """M times what `look` returned."""


OnStep = Callable[[Step], None]
"""Called on the host, in the order of the steps."""


@dataclass(frozen=True)
class Stepped:
    """Samples like `Streamed`, or with experts that stay where they are, and calls `on_step` after each step."""

    predict: Predict
    stages: Stages
    sampler: Sampler
    mesh: Mesh | None = None
    streamed: bool = False
    look: Callable[[Params, jax.Array, jax.Array, Any, Any], Any] | None = None
    """look(params, x, t, text, shared) -> pytree: asked before each step, of the expert at work; for `Step.seen`."""

    @cached_property
    def step(self) -> Any:
        """step(params, carry, text, shared, key, i) -> (carry, x0, seen), the carry in the same memory."""

        def run(params: Params, carry: Any, text: Any, shared: Any, key: jax.Array, i: jax.Array) -> Any:
            # A sampler may ask from within a loop of its own, so what it was told is kept in a mutable array.
            x0 = jax.new_ref(jnp.zeros_like(carry.x))

            def apply(params: Params, x: jax.Array, t: jax.Array) -> Denoised:
                denoised = self.predict(params, x, t, text, shared)
                x0[...] = denoised.x0
                return denoised

            t = jnp.broadcast_to(jnp.asarray(self.sampler.timesteps)[i], carry.x.shape[:1])
            seen = None if self.look is None else self.look(params, carry.x, t, text, shared)
            carry = run_step(params, apply, self.sampler, carry, i, key)
            return carry, x0[...], seen

        return jax.jit(run, donate_argnums=1)

    @cached_property
    def _start(self) -> Any:
        return starting(self.sampler)

    @cached_property
    def _finish(self) -> Any:
        return finishing(self.sampler)

    def __call__(self, experts: Sequence[LazyParams], inputs: Inputs, on_step: OnStep) -> jax.Array:
        """Clean latents [M, b, ...] of `inputs`, expert i in charge of stage i. What `on_step` raises ends it."""
        if len(experts) != self.stages.n:
            raise ValueError(f"{self.stages.n} stages need {self.stages.n} experts, but {len(experts)} were given.")
        plan = [tuple(map(int, row)) for row in visits(self.stages, self.sampler.timesteps)]
        each = [jax.tree.map(lambda leaf, m=m: leaf[m], (inputs.text, inputs.keys)) for m in range(inputs.count)]
        carries = [self._start(latents) for latents in inputs.latents]
        done: Step | None = None
        held: list[Params] = []
        try:
            held.append(self._fetch(experts[plan[0][0]]))
            for place, (stage, first, end) in enumerate(plan):
                for i in range(first, end):
                    results = [
                        self.step(held[0], carry, text, inputs.shared, key, i)
                        for carry, (text, key) in zip(carries, each, strict=True)
                    ]
                    carries, x0, seen = map(list, zip(*results, strict=True))
                    if i == first and place + 1 < len(plan) and self._prefetch:
                        held.append(self._fetch(experts[plan[place + 1][0]]))
                    _report(done, on_step)
                    done = Step(i, int(self.sampler.timesteps[i]), stage, x0, seen)
                if self.streamed:
                    jax.block_until_ready(carries)
                self._release(held.pop(0))
                if not held and place + 1 < len(plan):
                    held.append(self._fetch(experts[plan[place + 1][0]]))
            _report(done, on_step)
            return self._finish(carries)
        finally:
            for params in held:
                self._release(params)

    @property
    def _prefetch(self) -> bool:
        # As in `Streamed`: what is gathered from a mesh keeps the chips themselves busy.
        return self.streamed and (self.mesh is None or self.mesh.shape["fsdp"] == 1)

    def _fetch(self, source: LazyParams) -> Params:
        return fetch(source, self.mesh) if self.streamed else source

    def _release(self, params: Params) -> None:
        if self.streamed:
            release(params)


def _report(step: Step | None, on_step: OnStep) -> None:
    if step is not None:
        jax.block_until_ready(step.x0)
        on_step(step)
