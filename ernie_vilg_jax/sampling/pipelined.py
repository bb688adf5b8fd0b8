"""Pipelined sampling: every group of devices keeps its experts, and batches of latents move from group to group.

Groups lie along the mesh axis `expert`, as in training: group g of G holds the n / G stages from g * n / G on. Sampling
starts in the noisiest stage, so batches enter at group G - 1 and leave at group 0. Four groups, five batches:

    tick      0  1  2  3  4  5  6  7
    group 3   0  1  2  3  4  .  .  .      noisiest stage
    group 2   .  0  1  2  3  4  .  .
    group 1   .  .  0  1  2  3  4  .
    group 0   .  .  .  0  1  2  3  4      cleanest stage
                                          . idle: 37.5%

Besides its experts, a group holds the batch that it works on and its share of the batches that wait or are done:

    a queue of ceil(M / G) slots, each one batch wide on every group
      before tick t   the batch that enters next lies in slot t // G at group G - 1
      in tick t       the slot moves one group up, and the batch that group 0 has finished takes the free place
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ernie_vilg_jax.diffusion.loop import run_step, visits
from ernie_vilg_jax.diffusion.samplers import Sampler
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.sampling.inputs import Inputs, OnStep, Params, Predict, across, unwatched
from ernie_vilg_jax.sampling.turns import LazyParams, working

IDLE = -1


def timetable(groups: int, batches: int) -> np.ndarray:
    """[ticks, groups] int32: the batch that each group works on at each tick, or IDLE. M + G - 1 ticks."""
    tick, group = np.indices((batches + groups - 1, groups))
    batch = tick - (groups - 1 - group)
    return np.where((batch >= 0) & (batch < batches), batch, IDLE).astype(np.int32)


def bubble(table: np.ndarray) -> float:
    """The share of a schedule in which groups are idle: (G - 1) / (M + G - 1)."""
    return float(np.mean(table == IDLE))


def draw(table: np.ndarray) -> str:
    """The schedule as text, as in this module's docstring."""
    width = max(2, len(str(table.max())), len(str(len(table) - 1))) + 1
    line = lambda head, cells: f"{head:<9}" + "".join(f"{cell:>{width}}" for cell in cells)  # noqa: E731
    rows = [line("tick", range(len(table)))]
    for group in reversed(range(table.shape[1])):
        rows.append(line(f"group {group}", ["." if batch == IDLE else batch for batch in table[:, group]]))
    return "\n".join([*rows, f"idle: {bubble(table):.1%}"])


def places(groups: int, batches: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the queue [groups * slots]: the batch that waits there at the start (or IDLE), and the one at the end."""
    slots = -(-batches // groups)
    slot, group = np.meshgrid(np.arange(slots), np.arange(groups))
    waiting = slot * groups + (groups - 1 - group)
    waiting[waiting >= batches] = IDLE
    queue = waiting.copy()
    for tick, row in enumerate(timetable(groups, batches)):
        here = tick // groups % slots
        queue[1:, here] = queue[:-1, here]
        queue[0, here] = row[0]
    return waiting.reshape(-1), queue.reshape(-1)


class Travelling(NamedTuple):
    """The arrays that move with a batch. Leading axis: row of the queue, or none while a group works on it."""

    carry: Any
    text: Any
    key: jax.Array  # as key data, uint32


class Course(NamedTuple):
    """The steps of a call."""

    sampler: Any
    bounds: Any
    """[n, 2] int32: first and end step of each stage; a stage without steps has none (0, 0)."""
    longest: Any
    """[n / G] int32: the steps of the longest of the groups' first stages, of their second ones, and so on."""


def stack_experts(origins: Sequence[LazyParams], mesh: Mesh) -> Params:
    """The bank: leaves [n, ...], expert i on group i // (n / G), replicated within it or sharded along `tensor`.

    Reads one group's experts at a time, so a process never holds more, and only those that its devices need.
    """
    groups = mesh.shape["expert"]
    here = len(origins) // groups
    pieces: list[list[Any]] = []
    for group in range(groups):
        own = mesh.devices[group : group + 1]
        if not any(device.process_index == jax.process_index() for device in own.flat):
            continue
        trees = [source() if callable(source) else source for source in origins[group * here : (group + 1) * here]]
        stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees)
        pieces.append(jax.tree.leaves(jax.device_put(stacked, _bank_shardings(stacked, Mesh(own, mesh.axis_names)))))
        structure = jax.tree.structure(stacked)
    whole = _bank_shardings(jax.tree.unflatten(structure, pieces[0]), mesh)
    leaves = [
        jax.make_array_from_single_device_arrays(
            (len(origins), *parts[0].shape[1:]), sharding, [s.data for part in parts for s in part.addressable_shards]
        )
        for parts, sharding in zip(zip(*pieces, strict=True), jax.tree.leaves(whole), strict=True)
    ]
    return jax.tree.unflatten(structure, leaves)


def _bank_shardings(bank: Any, mesh: Mesh) -> Any:
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), bank)
    lead = lambda sharding: NamedSharding(mesh, PartitionSpec("expert", *sharding.spec))  # noqa: E731
    return jax.tree.map(lead, working(one, mesh))


@dataclass(frozen=True)
class Pipelined:
    """Samples without moving experts; only latents, the sampler's history and text features move."""

    predict: Predict
    stages: Stages
    mesh: Mesh

    def __post_init__(self) -> None:
        if self.stages.n % self.groups:
            raise ValueError(f"{self.stages.n} experts cannot be divided among {self.groups} groups.")

    @property
    def groups(self) -> int:
        """G."""
        return self.mesh.shape["expert"]

    def __call__(self, experts: Params, sampler: Sampler, inputs: Inputs, on_step: OnStep | None = None) -> jax.Array:
        """Clean latents [M, b, ...] of `inputs`, with the experts of `stack_experts`."""
        unwatched(on_step)
        if {leaf.shape[0] for leaf in jax.tree.leaves(experts)} != {self.stages.n}:
            raise ValueError(f"{self.stages.n} stages need a bank of {self.stages.n} experts.")
        with jax.set_mesh(self.mesh):
            same = NamedSharding(self.mesh, PartitionSpec())
            course = jax.device_put(self.course(sampler), same)
            queue = self._enter(inputs.count, course.sampler, inputs.latents, inputs.text, inputs.keys)
            queue = self.program(inputs.count, experts, course, jax.device_put(inputs.shared, same), queue)
            return self._leave(inputs.count, course.sampler, queue.carry)

    @cached_property
    def program(self) -> Any:
        """program(count, bank, course, shared, queue) -> queue after the last tick.

        `count`, the number of batches, is static. The queue's memory is donated.
        """
        own, whole = PartitionSpec("expert"), PartitionSpec()

        def run(count: int, bank: Params, course: Course, shared: Any, queue: Travelling) -> Travelling:
            return jax.shard_map(
                partial(self._group, count),
                mesh=self.mesh,
                in_specs=(own, Course(whole, own, whole), whole, own),
                out_specs=own,
                axis_names={"expert"},
                # Unchecked: the check would require samplers to mark every value that differs between groups.
                check_vma=False,
            )(bank, course, shared, queue)

        return jax.jit(run, static_argnums=0, donate_argnums=4)

    @cached_property
    def _enter(self) -> Any:
        """_enter(count, sampler, latents, text, keys) -> the queue before the first tick."""

        def run(count: int, sampler: Sampler, latents: jax.Array, text: Any, keys: jax.Array) -> Travelling:
            waiting, _ = places(self.groups, count)
            # A row without a waiting batch holds a copy of batch 0, which is never used.
            rows = np.where(waiting == IDLE, 0, waiting)
            images = latents.shape[1]

            def one(leaf: jax.Array) -> jax.Array:
                axes = across(self.mesh, images, ("data", "fsdp")) if leaf.shape[1:2] == (images,) else None
                spec = PartitionSpec("expert", axes) if leaf.ndim > 1 else PartitionSpec("expert")
                return jax.lax.with_sharding_constraint(leaf[rows], NamedSharding(self.mesh, spec))

            start = Travelling(jax.vmap(sampler.init)(latents), text, jax.random.key_data(keys))
            return jax.tree.map(one, start)

        return jax.jit(run, static_argnums=0)

    @cached_property
    def _leave(self) -> Any:
        """_leave(count, sampler, carries of the queue) -> clean latents [count, b, ...]."""

        def run(count: int, sampler: Sampler, carries: Any) -> jax.Array:
            _, ended = places(self.groups, count)
            rows = np.argsort(ended)[np.sum(ended == IDLE) :]
            return jax.vmap(sampler.finish)(jax.tree.map(lambda leaf: leaf[rows], carries))

        return jax.jit(run, static_argnums=0)

    def course(self, sampler: Sampler) -> Course:
        """The steps of each stage, by the sampler's timesteps."""
        bounds = np.zeros((self.stages.n, 2), np.int32)
        for stage, first, end in visits(self.stages, sampler.timesteps):
            bounds[stage] = first, end
        longest = (bounds[:, 1] - bounds[:, 0]).reshape(self.groups, -1).max(axis=0)
        return Course(sampler, bounds, longest)

    def _group(self, count: int, bank: Params, course: Course, shared: Any, queue: Travelling) -> Travelling:
        """All ticks of one group. `bank`, `course.bounds` and `queue` are its own part of each."""
        groups, slots = self.groups, -(-count // self.groups)
        table = jnp.asarray(timetable(groups, count))
        group = jax.lax.axis_index("expert")
        down = [(g, g - 1) for g in range(1, groups)]
        up = [(g, g + 1) for g in range(groups - 1)]

        def tick(held: tuple[Travelling, Travelling], t: jax.Array) -> tuple[tuple[Travelling, Travelling], None]:
            state, queue = held
            slot = t // groups % slots
            waiting = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, slot, keepdims=False), queue)
            state = _choose(group == groups - 1, waiting, state)
            busy = table[t, group] != IDLE
            state = state._replace(carry=self._work(bank, course, busy, shared, state))
            waiting = _choose(group == 0, state, _move(waiting, up))
            queue = jax.tree.map(
                lambda leaf, new: jax.lax.dynamic_update_index_in_dim(leaf, new, slot, 0), queue, waiting
            )
            return (_move(state, down), queue), None

        nothing = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), queue)
        (_, queue), _ = jax.lax.scan(tick, (nothing, queue), jnp.arange(len(table)))
        return queue

    def _work(self, bank: Params, course: Course, busy: jax.Array, shared: Any, state: Travelling) -> Any:
        """The steps of a group's stages, noisiest first: carry to carry. None unless it is `busy`.

        Every group runs as many steps as the longest stage of any group, and drops the results beyond its own stage.
        It would have to wait for that stage anyway. If groups left their loops at different times, the devices within a
        group could not use collectives in the loop.
        """
        key = jax.random.wrap_key_data(state.key)
        apply = lambda params, x, t: self.predict(params, x, t, state.text, shared)  # noqa: E731
        bounds = jnp.where(busy, course.bounds, 0)

        def stage(carry: Any, xs: tuple[Params, jax.Array, jax.typing.ArrayLike]) -> tuple[Any, None]:
            params, (first, end), count = xs

            def step(k: jax.Array, carry: Any) -> Any:
                return _choose(first + k < end, run_step(params, apply, course.sampler, carry, first + k, key), carry)

            return jax.lax.fori_loop(0, count, step, carry), None

        if len(bounds) == 1:
            # Not a loop of one iteration: that would copy the expert.
            return stage(state.carry, jax.tree.map(lambda leaf: leaf[0], (bank, bounds, course.longest)))[0]
        return jax.lax.scan(stage, state.carry, (bank, bounds, course.longest), reverse=True)[0]


def _move(tree: Any, pairs: list[tuple[int, int]]) -> Any:
    return jax.tree.map(lambda leaf: jax.lax.ppermute(leaf, "expert", pairs), tree)


def _choose(which: jax.Array, then: Any, otherwise: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), then, otherwise)
