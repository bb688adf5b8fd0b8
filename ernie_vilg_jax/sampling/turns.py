"""One expert after the other on the device, the next in transfer.

    device   | fetch 3 | stage 3 ..... | stage 2 ..... | stage 1 ..... | stage 0 ..... |
    transfer | 3       | 2 ....        | 1 ....        | 0 ....        |
                         (the next expert is fetched while the current one is used, and freed after its stage)

An expert may come from host memory, from disk, or from the other chips of a mesh: see `LazyParams`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from ernie_vilg_jax.diffusion.loop import visits
from ernie_vilg_jax.diffusion.samplers import Sampler
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.sampling.inputs import Params
from ernie_vilg_jax.sharding import rules

LazyParams = Params | Callable[[], Params]
"""Where an expert comes from:

- a tree of arrays, which is not freed: numpy, or jax arrays in host memory (`to_host`), or sharded over a mesh;
- a function that reads the expert again at each call, from disk for instance. What it returns is freed after use.
"""


def working(tree: Any, mesh: Mesh | None) -> Any:
    """Shardings of an expert in use: replicated, or sharded along `tensor` only. Without a mesh, one device."""
    if mesh is None:
        return jax.tree.map(lambda _: SingleDeviceSharding(jax.local_devices()[0]), tree)

    def one(at_rest: NamedSharding) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec(*(axis if axis == "tensor" else None for axis in at_rest.spec)))

    return jax.tree.map(one, rules.shardings(tree, mesh))


def to_host(tree: Any) -> Any:
    """Copies of the arrays in page-locked host memory, from which transfers are fastest; numpy if there is none."""
    device = jax.local_devices()[0]
    if any(memory.kind == "pinned_host" for memory in device.addressable_memories()):
        return jax.device_put(tree, SingleDeviceSharding(device, memory_kind="pinned_host"), may_alias=False)
    return jax.device_get(tree)


def fetch(source: LazyParams, mesh: Mesh | None = None) -> Params:
    """The expert on the device (or on all of the mesh): a new copy, to be freed by `release`. Does not block."""
    tree = source() if callable(source) else source
    # A source that is already on the device must survive the release of its copy.
    return jax.device_put(tree, working(tree, mesh), may_alias=None if callable(source) else False)


def release(params: Params) -> None:
    """Frees the arrays' memory now, not at garbage collection."""
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


class Turns:
    """The experts of a sampler's stages, one after the other; as a context, it frees what is held at the end.

    Iterating gives (params, stage, first step, end step). Dispatch the steps, call `ahead`, and wait for the steps
    before the next iteration, which frees the expert. With `moves=False` experts are on their devices already, and
    nothing is moved or freed.
    """

    def __init__(
        self,
        experts: Sequence[LazyParams],
        stages: Stages,
        sampler: Sampler,
        mesh: Mesh | None = None,
        *,
        moves: bool = True,
        prefetch: bool = True,
    ) -> None:
        if len(experts) != stages.n:
            raise ValueError(f"{stages.n} stages need {stages.n} experts, but {len(experts)} were given.")
        self._plan = [tuple(map(int, row)) for row in visits(stages, sampler.timesteps)]
        self._experts, self._mesh, self._moves, self._prefetch = experts, mesh, moves, moves and prefetch
        self._held: list[Params] = []
        self._place = -1

    def __enter__(self) -> "Turns":
        return self

    def __exit__(self, *_: object) -> None:
        while self._held:
            self._free()

    def __iter__(self) -> Iterator[tuple[Params, int, int, int]]:
        self._fetch_next()
        for place, (stage, first, end) in enumerate(self._plan):
            self._place = place
            yield self._held[0], stage, first, end
            self._free()
            if not self._held:
                self._fetch_next()

    def ahead(self) -> None:
        """Starts fetching the next expert, with prefetch."""
        if self._prefetch and len(self._held) == 1:
            self._fetch_next()

    def _fetch_next(self) -> None:
        if self._place + 1 < len(self._plan):
            source = self._experts[self._plan[self._place + 1][0]]
            self._held.append(fetch(source, self._mesh) if self._moves else source)

    def _free(self) -> None:
        params = self._held.pop(0)
        if self._moves:
            release(params)
