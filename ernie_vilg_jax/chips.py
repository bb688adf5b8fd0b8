"""Known accelerators: memory, peak and clock of TPU chips, by the name of their version; libtpu without a TPU."""

import dataclasses
import os
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device of a slice: a TPU chip, or one of the two halves of a TPU7x chip.

    Attributes:
      hbm: bytes of memory.
      bandwidth: of its memory, bytes a second.
      flops: peak of bf16 matrix products, FLOP a second.
      clock: cycles a second, which turn the compiler's cycles into seconds; inferred from the peak, not published.
      devices: devices of a chip.
    """

    name: str
    hbm: float
    bandwidth: float
    flops: float
    clock: float
    devices: int = 1


# Memory and peak come from Google Cloud's pages on each TPU version, and so does the bandwidth of v5e; the other
# bandwidths were not checked there.
CHIPS = {
    "v5e": Chip("v5e", 16 * 2**30, 819e9, 197e12, 1.5e9),
    "v5p": Chip("v5p", 95 * 2**30, 2765e9, 459e12, 1.75e9),
    "v6e": Chip("v6e", 32 * 2**30, 1640e9, 918e12, 1.75e9),
    "tpu7x": Chip("half of a tpu7x", 96 * 2**30, 3690e9, 1153.5e12, 2.2e9, devices=2),
}

KINDS = {
    **dict.fromkeys(("TPU v5 lite", "TPU v5e"), CHIPS["v5e"]),
    **dict.fromkeys(("TPU v5", "TPU v5p"), CHIPS["v5p"]),
    **dict.fromkeys(("TPU v6 lite", "TPU v6e"), CHIPS["v6e"]),
    "TPU7x": CHIPS["tpu7x"],
}
"""jax's name for a device (`device_kind`) -> its chip."""

ABSENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5p-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""What libtpu asks the machine for; on one without a TPU it prints errors to stderr unless the environment says it."""


def without_tpu(devices: Path = Path("/dev")) -> None:
    """Keeps an installed libtpu quiet on a machine without a TPU. Call it before jax opens devices.

    jax looks for a TPU whenever libtpu is installed. Variables that are set stay; with a TPU, nothing is changed.
    """
    if not [*devices.glob("accel*"), *devices.glob("vfio/[0-9]*")]:
        for name, value in ABSENT.items():
            os.environ.setdefault(name, value)
