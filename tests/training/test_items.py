"""The bank split into items and joined again, on meshes of eight devices."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import pytest

from ernie_vilg_jax.checkpointing import expert_name
from ernie_vilg_jax.forecast.hlo import Program
from ernie_vilg_jax.sharding.rules import local_bytes
from ernie_vilg_jax.training.items import Cutter
from tests.training.test_meshes import mesh_of, task_on, tiny

MESHES: tuple[Mapping[str, int], ...] = (
    {"expert": 2, "data": 1, "fsdp": 2, "tensor": 2},
    {"data": 2, "fsdp": 4},
)
pytestmark = pytest.mark.slow
TRAINED = (4, 0, 1, 3)


def random_like(tree: Any) -> Any:
    """Random bits, so that NaN and negative zeros are among them."""
    rng = np.random.default_rng(0)

    def one(leaf: Any) -> Any:
        if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.device_put(jax.random.key(7), leaf.sharding)
        bits = rng.integers(0, 256, leaf.size * leaf.dtype.itemsize, np.uint8)
        return jax.device_put(bits.view(leaf.dtype).reshape(leaf.shape), leaf.sharding)

    return jax.tree.map(one, tree)


def bits(leaf: Any) -> bytes:
    key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if key else leaf).tobytes()


@pytest.mark.parametrize("sizes", [MESHES[0], pytest.param(MESHES[1], marks=pytest.mark.hosts)], ids=str)
def test_items_are_the_experts_and_make_the_state_again(sizes: Mapping[str, int]) -> None:
    mesh = mesh_of(sizes)
    config = tiny(**{"experts.n": 5, "experts.train": TRAINED})
    with jax.set_mesh(mesh):
        task = task_on(mesh, config)
        state, cutter = random_like(task.abstract), Cutter(task, mesh)
        cutter.compile()
        items = cutter.items(state)
        assert jax.tree.structure(items) == jax.tree.structure(cutter.abstract)
        for found, stated in zip(jax.tree.leaves(items), jax.tree.leaves(cutter.abstract), strict=True):
            assert (found.shape, found.dtype) == (stated.shape, stated.dtype)
            assert found.sharding.is_equivalent_to(stated.sharding, found.ndim)
        for k, stage in enumerate(TRAINED):
            expected = jax.tree.map(lambda leaf, k=k: np.asarray(leaf)[k].tobytes(), state["experts"])
            assert jax.tree.map(bits, items[expert_name(stage)]) == expected, stage
        again = cutter.state(dict(items))
    assert jax.tree.map(bits, again) == jax.tree.map(bits, state)
    placed = jax.tree.map(lambda leaf, place: leaf.sharding.is_equivalent_to(place, leaf.ndim), again, task.shardings)
    assert all(jax.tree.leaves(placed))


@pytest.mark.proofs
def test_no_device_holds_more_of_an_expert_than_its_part() -> None:
    mesh = mesh_of({"expert": 4, "data": 1, "fsdp": 2})
    with jax.set_mesh(mesh):
        task = task_on(mesh, tiny(**{"experts.n": 4}))
        cutter = Cutter(task, mesh)
        bank, one = local_bytes(task.abstract["experts"]), local_bytes(cutter.abstract[expert_name(0)])
        take, arguments = cutter.programs()[-1]
        program = Program(take.lower(*arguments).compile().as_text())
    # Small arrays that do not divide are on all devices.
    assert 4 * one < 1.1 * bank
    # An expert's parts are exchanged; no device ever gets a whole expert.
    largest = max(collective.bytes for collective in program.collectives)
    assert largest <= max(leaf.size * 4 for leaf in jax.tree.leaves(cutter.abstract[expert_name(0)])) / 2
