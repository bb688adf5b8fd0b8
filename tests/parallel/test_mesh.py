import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.parallel.mesh import AXES, make_mesh


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"data": -1}, (8, 1, 1, 1)),
        ({"data": 2, "fsdp": -1}, (2, 4, 1, 1)),
        ({"data": 1, "fsdp": 2, "tensor": 2, "expert": 2}, (1, 2, 2, 2)),
    ],
)
def test_shapes(sizes: dict[str, int], expected: tuple[int, ...]) -> None:
    mesh = make_mesh(sizes)
    assert tuple(mesh.shape[axis] for axis in AXES) == expected


@pytest.mark.parametrize(
    "sizes", [{"data": 3}, {"data": 16}, {"data": 4}, {"data": -1, "fsdp": -1}, {"data": 0}, {"data": -1, "fsdp": 3}]
)
def test_impossible_meshes_name_the_flag(sizes: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"--config\.mesh"):
        make_mesh(sizes)
