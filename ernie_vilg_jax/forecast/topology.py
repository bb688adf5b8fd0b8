"""Absent TPUs: their compiler runs on any Linux machine that has libtpu, and needs no TPU.

    pip install libtpu
    devices, chip = describe("v5p:4x4x8")

The programs cannot run here, but their memory is what a TPU would need, and their cycles are the compiler's own.
"""

import os
import re
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from ernie_vilg_jax.aliases import Device
from ernie_vilg_jax.chips import ABSENT, CHIPS, Chip
from ernie_vilg_jax.errors import UserError, first_line


class Slice(NamedTuple):
    """A slice, or several, by name."""

    devices: int
    slices: int
    chip: Chip | None
    """None for gpu and cpu, whose memory is not known."""


def parse(topology: str) -> Slice:
    """What "v5p:4x4x8", "2*v5p:4x4x8" (two slices), "gpu:8" or "cpu:1" names; needs no compiler."""
    found = re.fullmatch(r"(?:([1-9]\d*)\*)?(\w+):([1-9]\d*(?:x[1-9]\d*)*)", topology)
    if found is None or found[2] not in (*CHIPS, "gpu", "cpu"):
        raise UserError(
            f"--topology={topology} names no known chip: give {', '.join(CHIPS)} and a shape, such as v5p:4x4x8, "
            "2*v5p:4x4x8 for two slices, or gpu or cpu with a number, such as gpu:8"
        )
    slices, chip = int(found[1] or 1), CHIPS.get(found[2])
    each = prod(map(int, found[3].split("x"))) * (chip.devices if chip else 1)
    return Slice(slices * each, slices, chip)


def describe(topology: str) -> tuple[Sequence[Device], Chip]:
    """The devices of a slice such as "v5p:4x4x8" or "v6e:16x16", to compile for, and their chip."""
    name = topology.partition(":")[0]
    if name not in CHIPS:
        raise UserError(
            f"--topology={topology} names no known chip: give {', '.join(CHIPS)} and a shape, such as v5p:4x4x8"
        )
    return devices_of(topology), CHIPS[name]


def devices_of(topology: str) -> Sequence[Device]:
    """The devices of a slice, for any chip that the installed libtpu knows."""
    for variable, value in ABSENT.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    try:
        return topologies.get_topology_desc(topology, platform="tpu").devices
    except Exception as error:  # the plugin raises several types, and jax another when it is not installed
        raise UserError(
            f"--topology={topology} cannot be compiled for ({first_line(error)}): `pip install libtpu`, and give a "
            "shape that exists, such as v5e:4x8, v5p:4x4x8 or v6e:16x16"
        ) from error
