"""Converts a training state to the items of a checkpoint and back: one item per expert, with its sharding.

The experts are one stack, [n, ...] for each array; each group of devices along the mesh axis `expert` has n/groups of
them. A single program that slices the stack would return every array of every expert, 28,000 for the paper: compiling
it takes ten minutes and 11 GB. Instead, one small program slices one expert of each group, and is called n/groups
times.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.training.task import Items, State, Task


class Cutter:
    """Copies a state on `mesh` into items, and makes a state from items.

    Attributes:
      abstract: shapes, dtypes and shardings of all items.
    """

    def __init__(self, task: Task, mesh: Mesh) -> None:
        self._task, self._mesh, self._groups = task, mesh, mesh.shape["expert"]
        self._here = len(task.experts) // self._groups
        self.abstract: Items = _place(jax.eval_shape(task.items, task.abstract), mesh)
        self._rest: Any = jax.jit(task.items, out_shardings=_shardings(self.abstract))
        self._take: Any = None
        if task.experts:
            bank = task.abstract["experts"]
            one = _place(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), bank), mesh)
            self.abstract |= dict.fromkeys(task.experts, one)
            places = jax.tree.map(lambda leaf: leaf.sharding, one)
            self._take = jax.jit(partial(_take, places), out_shardings=(places,) * self._groups)
            self._put = jax.jit(partial(_put, places), donate_argnums=0, out_shardings=_shardings(bank))

    def programs(self) -> list[tuple[Any, tuple[Any, ...]]]:
        """The programs that `items` calls: each jitted function with its abstract arguments."""
        state = self._task.abstract
        index = jax.ShapeDtypeStruct((), jnp.int32, sharding=rules.replicated(self._mesh))
        take = [(self._take, (state, index))] if self._take else []
        return [(self._rest, (state,)), *take]

    def compile(self) -> None:
        """Compiles the programs of `items` in advance: a preempted machine has no time for it."""
        self._rest, *take = [jitted.lower(*arguments).compile() for jitted, arguments in self.programs()]
        self._take = take[0] if take else None

    def items(self, state: State) -> Items:
        """A copy of the state, split into items."""
        items = dict(self._rest(state))
        for j in range(self._here):
            experts = self._take(state, np.int32(j))
            items |= {self._task.experts[group * self._here + j]: expert for group, expert in enumerate(experts)}
        return items

    def state(self, items: Items) -> State:
        """The inverse. It removes the experts from `items` one by one: devices have no room for all of them twice."""
        names, abstract = self._task.experts, self._task.abstract
        rest = {name: tree for name, tree in items.items() if name not in names}
        kept = {name: self._task.shardings[name] for name in jax.eval_shape(self._task.state, rest)}
        state = jax.jit(self._task.state, out_shardings=kept)(rest)
        if not names:
            return state
        blank = lambda: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract["experts"])  # noqa: E731
        bank = jax.jit(blank, out_shardings=self._task.shardings["experts"])()
        for j in range(self._here):
            experts = tuple(items.pop(names[group * self._here + j]) for group in range(self._groups))
            bank = self._put(bank, experts, np.int32(j))
        return {**state, "experts": bank}


def _take(places: Any, state: State, j: jax.Array) -> tuple[Any, ...]:
    """The j-th expert of each group, [n, ...] -> groups x [...]: sliced on its group, then sharded over all groups."""

    def one(leaf: jax.Array, place: NamedSharding) -> jax.Array:
        """[groups, ...], each with the sharding of its item."""
        experts = jax.lax.dynamic_index_in_dim(_by_group(leaf, place.mesh), j, axis=1, keepdims=False)
        return jax.lax.with_sharding_constraint(experts, _stacked(place))

    stack = jax.tree.map(one, state["experts"], places)
    groups = jax.tree.leaves(stack)[0].shape[0]
    return tuple(jax.tree.map(lambda leaf, g=g: leaf[g], stack) for g in range(groups))


def _put(places: Any, bank: Any, experts: tuple[Any, ...], j: jax.Array) -> Any:
    """`bank` with the j-th expert of each group replaced."""

    def one(leaf: jax.Array, place: NamedSharding, *experts: jax.Array) -> jax.Array:
        stack = jax.lax.with_sharding_constraint(jnp.stack(experts), _stacked(place))
        bank = _by_group(leaf, place.mesh)
        return jax.lax.dynamic_update_index_in_dim(bank, stack, j, axis=1).reshape(leaf.shape)

    return jax.tree.map(one, bank, places, *experts)


def _stacked(place: NamedSharding) -> NamedSharding:
    return NamedSharding(place.mesh, PartitionSpec(None, *place.spec))


def _by_group(leaf: jax.Array, mesh: Any) -> jax.Array:
    """[n, ...] -> [groups, n / groups, ...]."""
    return leaf.reshape(mesh.shape["expert"], -1, *leaf.shape[1:])


def _place(tree: Any, mesh: Mesh) -> Any:
    """Shardings of items by `rules`, but not replicated on all groups of devices, which would hold them n times.

    Each group holds a part if a dimension is divisible.
    """
    groups = mesh.shape["expert"]

    def over(leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> NamedSharding:
        spec = [*sharding.spec, *[None] * (leaf.ndim - len(sharding.spec))]
        for place, (axis, size) in enumerate(zip(spec, leaf.shape, strict=True)):
            if size % (groups * (mesh.shape[axis] if axis else 1)) == 0:
                spec[place] = (axis, "expert") if axis else "expert"
                break
        return NamedSharding(mesh, PartitionSpec(*spec))

    shardings = rules.shardings(tree, mesh)
    return rules.placed(tree, shardings if groups == 1 else jax.tree.map(over, tree, shardings))


def _shardings(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.sharding, tree)
