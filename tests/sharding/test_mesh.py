from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sharding import mesh as meshes
from ernie_vilg_jax.sharding.mesh import AXES, abstract_mesh, make_mesh, nearest


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"data": -1}, {"data": 8}),
        ({"data": 2, "fsdp": -1}, {"data": 2, "fsdp": 4}),
        ({"data": 1, "fsdp": 2, "tensor": 2, "expert": 2}, {"fsdp": 2, "tensor": 2, "expert": 2}),
    ],
)
def test_shapes(sizes: dict[str, int], expected: dict[str, int]) -> None:
    mesh = make_mesh(sizes)
    assert dict(mesh.shape) == {axis: expected.get(axis, 1) for axis in AXES}


@pytest.mark.parametrize(
    "sizes", [{"data": 3}, {"data": 16}, {"data": 4}, {"data": -1, "fsdp": -1}, {"data": 0}, {"data": -1, "fsdp": 3}]
)
def test_impossible_meshes_name_the_flag(sizes: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"--config\.mesh"):
        make_mesh(sizes)


def test_the_nearest_possible_mesh_is_named() -> None:
    with pytest.raises(UserError, match=r"needs 6 devices, but there are 8; .*expert=2, data=1, fsdp=4, "):
        make_mesh({"expert": 2, "data": 1, "fsdp": 3})


@pytest.mark.parametrize(
    ("shape", "count", "expected"),
    [
        ((10, 1, 8, 1), 128, (16, 1, 8, 1)),
        ((1, 3, 1, 1), 8, (1, 8, 1, 1)),  # axes that were 1 stay 1
        ((2, -1, 5, 1), 8, (2, 1, 4, 1)),
    ],
)
def test_nearest(shape: tuple[int, ...], count: int, expected: tuple[int, ...]) -> None:
    found = nearest(shape, count)
    assert np.prod(found) == count
    assert found == expected


def devices(slices: int, each: int) -> list[Any]:
    """Devices of several slices, as JAX describes them."""
    return [
        SimpleNamespace(id=s * each + i, slice_index=s, process_index=s, platform="cpu", device_kind="cpu")
        for s in range(slices)
        for i in range(each)
    ]


@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 1, 4, 1), "expert"), ((1, 2, 4, 1), "data"), ((2, 2, 2, 1), "expert")]
)
def test_only_expert_or_data_lies_between_slices(shape: tuple[int, ...], axis: str) -> None:
    placed = meshes._over_slices(shape, 2, devices(2, 4))
    assert placed.shape == shape
    slices = np.vectorize(lambda device: device.slice_index)(placed)
    halves = np.split(slices, 2, axis=AXES.index(axis))
    assert [np.unique(half).tolist() for half in halves] == [[0], [1]]


def test_a_mesh_that_would_tear_fsdp_over_slices_is_refused() -> None:
    with pytest.raises(UserError, match="only expert or data may cross slices"):
        make_mesh({"fsdp": 8}, devices(2, 4))
    with pytest.raises(UserError, match="only expert or data may cross slices"):
        abstract_mesh({"fsdp": 8}, 8, slices=2)


def test_devices_that_are_not_here() -> None:
    mesh = abstract_mesh({"expert": 2, "data": -1, "fsdp": 4}, 16, slices=2)
    assert dict(mesh.shape) == dict.fromkeys(AXES, 1) | {"expert": 2, "data": 2, "fsdp": 4}
    with pytest.raises(UserError, match="needs a multiple of 6 devices, but there are 16"):
        abstract_mesh({"expert": 2, "data": -1, "fsdp": 3}, 16)
