"""The device mesh: axes `expert`, `data`, `fsdp`, `tensor`, any of them 1.

The order follows traffic: `expert` groups exchange almost nothing, so they may be far apart (in different slices);
`tensor` exchanges activations in every layer, so its devices are neighbours.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh

from ernie_vilg_jax.aliases import Device
from ernie_vilg_jax.errors import UserError

AXES = ("expert", "data", "fsdp", "tensor")
ACROSS_SLICES = ("expert", "data")
"""Axes that may cross slices, whose network is slower than the one within a slice."""


def make_mesh(sizes: Mapping[str, int], devices: Sequence[Device] | None = None) -> Mesh:
    """A mesh over `devices` (all by default) with the given axis sizes; one of them may be -1: all remaining devices.

    With several slices, only `expert` or `data` crosses them.
    Raises UserError, naming the nearest possible mesh, if the sizes do not fit the devices.
    """
    devices = list(jax.devices()) if devices is None else list(devices)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    shape = shape_of(sizes, len(devices), slices)
    if slices > 1:
        placed = _over_slices(shape, slices, devices)
    else:
        # An axis may use part of a side of the torus: fsdp=64 of 4 x 4 x 8 chips is 4 x 4 x half of 8.
        placed = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def abstract_mesh(sizes: Mapping[str, int], count: int, slices: int = 1) -> AbstractMesh:
    """A mesh of `count` absent devices: for shapes and shardings, not for computing.

    Raises UserError as `make_mesh` would on `count` devices in `slices` slices.
    """
    return AbstractMesh(tuple(shape_of(sizes, count, slices)), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def shape_of(sizes: Mapping[str, int], count: int, slices: int = 1) -> list[int]:
    """Devices along each of AXES. Raises UserError if the sizes do not fit `count` devices in `slices` slices."""
    shape = [int(sizes.get(axis, 1)) for axis in AXES]
    if sum(size == -1 for size in shape) > 1 or any(size < 1 and size != -1 for size in shape):
        raise UserError(f"--config.mesh ({_named(shape)}): sizes must be at least 1, and at most one of them may be -1")
    fixed = math.prod(size for size in shape if size != -1)
    if count % fixed or (-1 not in shape and fixed != count):
        raise UserError(
            f"--config.mesh ({_named(shape)}) needs {'a multiple of ' if -1 in shape else ''}{fixed} devices, but "
            f"there are {count}; the nearest that fits: {_named(nearest(shape, count))}"
        )
    shape = [count // fixed if size == -1 else size for size in shape]
    if slices > 1:
        _between(shape, slices)
    return shape


def nearest(shape: Sequence[int], count: int) -> tuple[int, ...]:
    """The mesh of `count` devices whose axes differ least from `shape`, by factor; -1 may become anything.

    Axes that were 1 stay 1 if possible.
    """

    def distance(candidate: Sequence[int]) -> tuple[int, float]:
        woken = sum(size > 1 and wanted == 1 for size, wanted in zip(candidate, shape, strict=True))
        factors = (abs(math.log(size / max(wanted, 1))) for size, wanted in zip(candidate, shape, strict=True))
        return woken, sum(0.0 if wanted == -1 else far for far, wanted in zip(factors, shape, strict=True))

    return min(_factorings(count, len(shape)), key=distance)


def _factorings(count: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ordered ways to write `count` as a product of `parts` positive whole numbers."""
    divisors = [d for d in range(1, count + 1) if count % d == 0]
    for head in itertools.product(divisors, repeat=parts - 1):
        if count % math.prod(head) == 0:
            yield (*head, count // math.prod(head))


def _over_slices(shape: Sequence[int], slices: int, devices: Sequence[Device]) -> np.ndarray:
    between = _between(shape, slices)
    within = [size // step for size, step in zip(shape, between, strict=True)]
    return mesh_utils.create_hybrid_device_mesh(within, between, devices)


def _between(shape: Sequence[int], slices: int) -> list[int]:
    """Slices along each axis: all of them along one of ACROSS_SLICES."""
    for axis in ACROSS_SLICES:
        place = AXES.index(axis)
        if shape[place] % slices == 0:
            return [slices if i == place else 1 for i in range(len(shape))]
    raise UserError(
        f"--config.mesh ({_named(shape)}) on {slices} slices: only expert or data may cross slices, so one of "
        f"them must be a multiple of {slices}"
    )


def _named(shape: Sequence[int]) -> str:
    return ", ".join(f"{axis}={size}" for axis, size in zip(AXES, shape, strict=True))
