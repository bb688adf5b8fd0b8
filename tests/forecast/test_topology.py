import pytest

from ernie_vilg_jax.chips import CHIPS
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.forecast.topology import describe, parse


def test_unknown_chips_are_refused() -> None:
    with pytest.raises(UserError, match="--topology=v99:2x2 names no known chip: give v5e, v5p, v6e, tpu7x"):
        describe("v99:2x2")


@pytest.mark.parametrize(
    ("topology", "devices", "slices", "chip"),
    [
        ("v5p:4x4x8", 128, 1, "v5p"),
        ("v6e:16x16", 256, 1, "v6e"),
        ("4*v5p:4x4x4", 256, 4, "v5p"),
        ("tpu7x:2x2x1", 8, 1, "tpu7x"),  # two devices each
        ("gpu:8", 8, 1, None),
    ],
)
def test_a_slice_by_name(topology: str, devices: int, slices: int, chip: str | None) -> None:
    assert parse(topology) == (devices, slices, chip and CHIPS[chip])


@pytest.mark.parametrize("topology", ["", "v5p", "v5p:", "v5p:4x", "v5p:0x4", "v99:2x2", "0*v5p:4", "8", "v5p:4x4 x8"])
def test_invalid_names_of_slices(topology: str) -> None:
    with pytest.raises(UserError, match=r"names no known chip: give v5e, v5p, v6e, tpu7x and a shape"):
        parse(topology)
