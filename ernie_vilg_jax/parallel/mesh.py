"""The device mesh: axes `data`, `fsdp`, `tensor`, `expert`, any of them 1."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from ernie_vilg_jax.errors import UserError

AXES = ("data", "fsdp", "tensor", "expert")


def make_mesh(sizes: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh over `devices` (all by default) with the given axis sizes; one of them may be -1, "all that are left".

    Raises UserError when the sizes do not multiply to the number of devices.
    """
    devices = list(jax.devices()) if devices is None else list(devices)
    shape = [int(sizes.get(axis, 1)) for axis in AXES]
    wanted = ", ".join(f"{axis}={size}" for axis, size in zip(AXES, shape, strict=True))
    if sum(size == -1 for size in shape) > 1 or any(size < 1 and size != -1 for size in shape):
        raise UserError(f"--config.mesh ({wanted}): sizes are at least 1, and at most one of them is -1")
    fixed = math.prod(size for size in shape if size != -1)
    if len(devices) % fixed or (-1 not in shape and fixed != len(devices)):
        raise UserError(
            f"--config.mesh ({wanted}) asks for a multiple of {fixed} devices, but there are {len(devices)}; "
            "set the sizes so that their product is the number of devices"
        )
    shape = [len(devices) // fixed if size == -1 else size for size in shape]
    return jax.make_mesh(tuple(shape), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)
