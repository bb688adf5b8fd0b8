"""Checksums of arrays: the same on any mesh and dtype that holds the same numbers, another for any other number."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ernie_vilg_jax import checksums

RNG = np.random.default_rng(0)
TREE: Any = {
    "kernel": RNG.standard_normal((8, 16, 3)).astype(np.float32),
    "half": RNG.standard_normal((16, 8)).astype(ml_dtypes.bfloat16),
    "words": RNG.integers(0, 256, 1000).astype(np.uint8),
    "mask": RNG.random(16) > 0.5,
    "step": np.int32(-7),
    "empty": np.zeros((0, 4), np.float32),
    "long": RNG.standard_normal((3, checksums.SMALL + 5)).astype(np.float32),
}


def sums(tree: Any) -> dict[str, str]:
    return checksums.of_items({"item": tree})["item"]


def reference(array: np.ndarray) -> str:
    """The same in plain Python, one element after the other."""

    def mix(x: int) -> int:
        x = (x ^ x >> 16) * 0x85EBCA6B % 2**32
        x = (x ^ x >> 13) * 0xC2B2AE35 % 2**32
        return x ^ x >> 16

    def total(values: list[int], odd: int) -> int:
        return sum(mix(value * odd % 2**32 ^ mix((place + odd) % 2**32)) for place, value in enumerate(values)) % 2**32

    flat = array.reshape(-1)
    if array.dtype == np.float32:
        halves = flat.astype(ml_dtypes.bfloat16).view(np.uint16)
        versions = [flat.view(np.uint32).tolist(), [int(bits) << 16 for bits in halves]]
    elif array.dtype == ml_dtypes.bfloat16:
        versions = [[int(bits) << 16 for bits in flat.view(np.uint16)]]
    else:
        versions = [[int(value) % 2**32 for value in flat]]
    rounds = ["".join(f"{total(values, odd):08x}" for odd in (0x9E3779B1, 0x85EBCA77)) for values in versions]
    return ":".join([str(array.dtype), *rounds])


@pytest.mark.parametrize("name", list(TREE))
def test_the_numbers_are_those_of_plain_python(name: str) -> None:
    assert sums({name: TREE[name]}) == {name: reference(np.asarray(TREE[name]))}


@pytest.mark.parametrize("spec", [(), ("a",), (None, "b"), ("b", "a"), (("a", "b"),)])
@pytest.mark.parametrize("small", [0, checksums.SMALL], ids=["on each device", "together"])
def test_every_mesh_gives_the_same(small: int, spec: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sums({"kernel": TREE["kernel"]})
    monkeypatch.setattr(checksums, "SMALL", small)
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    kernel = jax.device_put(TREE["kernel"], NamedSharding(mesh, PartitionSpec(*spec)))
    assert sums({"kernel": kernel}) == expected
    with jax.set_mesh(mesh):
        assert sums({"kernel": kernel}) == expected
    assert not checksums.differences({"kernel": kernel}, expected)


def test_keys_and_nested_trees_have_paths() -> None:
    tree = {"opt": ({"mu": np.float32(1)}, [np.int32(2)]), "key": jax.random.key(3)}
    assert set(sums(tree)) == {"opt/0/mu", "opt/1/0", "key"}
    assert checksums.differences({"key": jax.random.key(4)}, sums(tree)) == ["key"]


def test_read_in_another_dtype() -> None:
    """As Orbax casts: to nearest, ties to even; denormal numbers, infinities and NaN too."""
    odd = [1e-40, -1e-40, np.inf, -np.inf, np.nan, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, -0.0]
    full = np.concatenate([np.array(odd, np.float32), TREE["kernel"].reshape(-1)])
    half = full.astype(ml_dtypes.bfloat16)
    stated, of_half = sums({"x": full}), sums({"x": half})
    assert not checksums.differences({"x": half}, stated)
    assert not checksums.differences({"x": half.astype(np.float32)}, of_half)
    assert checksums.differences({"x": full}, of_half) == ["x"], "more digits than were saved"
    assert checksums.differences({"x": half.astype(np.float32)}, stated) == ["x"]


@pytest.mark.parametrize("name", ["kernel", "half", "words", "mask", "step"])
def test_one_bit_is_noticed(name: str) -> None:
    before, stated = np.asarray(TREE[name]), sums(TREE)
    for _ in range(20):
        raw = bytearray(before.tobytes())
        place = int(RNG.integers(len(raw)))
        raw[place] ^= 1 if before.dtype == np.bool_ else 1 << int(RNG.integers(8))
        after = np.frombuffer(bytes(raw), before.dtype).reshape(before.shape)
        assert checksums.differences({name: jnp.asarray(after)}, stated) == [name]


def test_places_count() -> None:
    """Elements exchanged, rows exchanged, a transposed array, an array that has no checksum."""
    kernel, stated = TREE["kernel"], sums(TREE)
    swapped = kernel.copy().reshape(-1)
    swapped[[0, 1]] = swapped[[1, 0]]
    others = [swapped.reshape(kernel.shape), kernel[::-1], kernel.transpose(1, 0, 2), kernel * 2, kernel * 0]
    for other in others:
        assert checksums.differences({"kernel": np.ascontiguousarray(other)}, stated) == ["kernel"]
    assert checksums.differences({"unknown": kernel}, stated) == ["unknown"]


@pytest.mark.parametrize(("small", "pieces"), [(0, (8, 64, 128)), (0, (4096,)), (2**15, ())])
def test_it_does_not_matter_how_much_is_summed_at_once(
    small: int, pieces: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In many pieces by a program, in one, or by numpy alone."""
    before = sums(TREE)
    monkeypatch.setattr(checksums, "SMALL", small)
    monkeypatch.setattr(checksums, "PIECES", pieces)
    assert sums(TREE) == before
