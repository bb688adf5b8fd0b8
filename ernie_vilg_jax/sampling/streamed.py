"""Streamed sampling: one expert on the device, the next on its way.

    device   | fetch 3 | stage 3 ..... | stage 2 ..... | stage 1 ..... | stage 0 ..... |
    transfer | 3       | 2 ....        | 1 ....        | 0 ....        |
                         (the next expert comes while the present one works, and an expert is freed after its stage)

An expert may come from host memory, from disk, or from the other chips of a mesh: see `LazyParams`. All batches
do a stage before the next expert is fetched, so that a call moves each expert once, however many pictures it makes.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from ernie_vilg_jax.diffusion.loop import run_stage, visits
from ernie_vilg_jax.diffusion.samplers import Sampler
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.sampling.inputs import Inputs, Params, Predict
from ernie_vilg_jax.sharding import rules

LazyParams = Params | Callable[[], Params]
"""Where an expert comes from:

- a tree of arrays, which stays as it is: numpy, or jax arrays in host memory (`to_host`), or cut over a mesh;
- a function that reads the expert again at each call, from disk for instance. What it returns is freed after use.
"""
OnStage = Callable[[int], None]
"""on_stage(stage): called on the host while that stage's expert works, after the next one was sent for."""


def working(tree: Any, mesh: Mesh | None) -> Any:
    """Shardings of an expert at work: whole on every chip, or cut along `tensor` only. Without a mesh, one device."""
    if mesh is None:
        return jax.tree.map(lambda _: SingleDeviceSharding(jax.local_devices()[0]), tree)

    def one(at_rest: NamedSharding) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec(*(axis if axis == "tensor" else None for axis in at_rest.spec)))

    return jax.tree.map(one, rules.shardings(tree, mesh))


def to_host(tree: Any) -> Any:
    """Copies of the arrays in page-locked host memory, from which devices read fastest; numpy where there is none."""
    device = jax.local_devices()[0]
    if any(memory.kind == "pinned_host" for memory in device.addressable_memories()):
        return jax.device_put(tree, SingleDeviceSharding(device, memory_kind="pinned_host"), may_alias=False)
    return jax.device_get(tree)


def fetch(source: LazyParams, mesh: Mesh | None = None) -> Params:
    """The expert on the device (or on all of the mesh): its own copy, to be freed by `release`. Does not wait."""
    tree = source() if callable(source) else source
    # A source that is already on the device must survive the release of what was fetched from it.
    return jax.device_put(tree, working(tree, mesh), may_alias=None if callable(source) else False)


def release(params: Params) -> None:
    """Frees the arrays' memory now, not when Python gets to it."""
    for leaf in jax.tree.leaves(params):
        leaf.delete()


@contextlib.contextmanager
def fetched(source: LazyParams, mesh: Mesh | None = None) -> Iterator[Params]:
    """`fetch`, then `release` at the end of the block; wait in it for whatever uses the parameters."""
    params = fetch(source, mesh)
    try:
        yield params
    finally:
        release(params)


def starting(sampler: Sampler) -> Any:
    """starting(sampler)(latents [b, ...]) -> carry, in memory of its own: the steps overwrite it, the noise stays."""
    return jax.jit(lambda latents: jax.tree.map(jnp.copy, sampler.init(latents)))


def finishing(sampler: Sampler) -> Any:
    """finishing(sampler)(M carries) -> clean latents [M, b, ...]."""
    return jax.jit(lambda carries: jnp.stack([sampler.finish(carry) for carry in carries]))


@dataclass(frozen=True)
class Streamed:
    """Samples with at most two experts on the device, or one without `prefetch`. Compiles one program, for all stages.

    `prefetch` is for sources outside the device: gathering from a mesh keeps the chips busy itself, so that there it
    would cost an expert's memory and save no time.
    """

    predict: Predict
    stages: Stages
    sampler: Sampler
    mesh: Mesh | None = None
    prefetch: bool = True
    on_stage: OnStage | None = None

    @cached_property
    def stage(self) -> Any:
        """stage(params, carry, text, shared, key, first, end) -> carry: the steps of one stage, in the same memory."""

        def run(params: Params, carry: Any, text: Any, shared: Any, key: jax.Array, first: Any, end: Any) -> Any:
            apply = lambda params, x, t: self.predict(params, x, t, text, shared)  # noqa: E731
            return run_stage(params, apply, self.sampler, carry, first, end, key)

        return jax.jit(run, donate_argnums=1)

    @cached_property
    def _start(self) -> Any:
        return starting(self.sampler)

    @cached_property
    def _finish(self) -> Any:
        return finishing(self.sampler)

    def __call__(self, experts: Sequence[LazyParams], inputs: Inputs) -> jax.Array:
        """Clean latents [M, b, ...] of `inputs`, expert i in charge of stage i."""
        if len(experts) != self.stages.n:
            raise ValueError(f"{self.stages.n} stages need {self.stages.n} experts, but {len(experts)} were given.")
        plan = visits(self.stages, self.sampler.timesteps)
        carries = [self._start(latents) for latents in inputs.latents]
        texts = [jax.tree.map(lambda leaf, m=m: leaf[m], inputs.text) for m in range(inputs.count)]
        expert = fetch(experts[plan[0][0]], self.mesh)
        for place, (stage, first, end) in enumerate(plan):
            # Queued on the device, not waited for: the host goes on to the next expert.
            carries = [
                self.stage(expert, carry, text, inputs.shared, key, first, end)
                for carry, text, key in zip(carries, texts, inputs.keys, strict=True)
            ]
            following = experts[plan[place + 1][0]] if place + 1 < len(plan) else None
            upcoming = fetch(following, self.mesh) if self.prefetch and following is not None else None
            if self.on_stage is not None:
                self.on_stage(int(stage))
            jax.block_until_ready(carries)
            release(expert)
            expert = fetch(following, self.mesh) if upcoming is None and following is not None else upcoming
        return self._finish(carries)
