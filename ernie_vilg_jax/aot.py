"""Says what training or sampling takes on a TPU slice, before you pay for one: does it fit, how fast could it be.

  pip install libtpu
  python -m ernie_vilg_jax.aot --topology=v5p:4x4x8 --config=configs/paper.py:experts \\
    --config.mesh.expert=2 --config.mesh.data=1 --config.mesh.fsdp=64 --config.phases.experts.batch_size=640
  python -m ernie_vilg_jax.aot --topology=v5p:4x4x8 --config=configs/paper.py --program=sampling --batch=128

Compiles the real program with the real TPU compiler; no TPU is needed, but minutes and some 10 GB of memory for the
paper's size. Prints, for one chip: parameters, optimizer, activations, memory against what the chip has, and the
compiler's own estimate of the time. --quick lets the compiler optimize less: it is done sooner, for a first look at the
memory, and its estimate is not worth reading. --search looks quickly for the largest multiple of the batch that fits,
and then compiles that in full, unless --quick is given, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import config_flags

from ernie_vilg_jax import cli
from ernie_vilg_jax.paths import check_writable, write_atomically

if TYPE_CHECKING:
    from ernie_vilg_jax.forecast.report import Forecast

_CONFIG = config_flags.DEFINE_config_file("config", None, "What would be trained: configs/NAME.py:base or :experts.")
_TOPOLOGY = flags.DEFINE_string(
    "topology", None, "The slice: v5e:4x8, v5p:4x4x8, v6e:16x16, tpu7x:4x4x4, ...", required=True
)
_OUTPUT = flags.DEFINE_string("output", "", "Also write the report to this file.")
_PROGRAM = flags.DEFINE_enum(
    "program", "training", ["training", "sampling"], "A training step, or prompts to pictures with all experts."
)
_BATCH = flags.DEFINE_integer("batch", 0, "With --program=sampling: pictures at once; one a chip by default.")
_QUICK = flags.DEFINE_boolean("quick", False, "Compile with fewer optimizations: for the memory only.")
_SEARCH = flags.DEFINE_boolean("search", False, "Look for the largest multiple of the batch that fits.")
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    del argv
    from ernie_vilg_jax.forecast.report import forecast_sampling, forecast_training, largest
    from ernie_vilg_jax.forecast.topology import describe
    from ernie_vilg_jax.sharding.mesh import make_mesh

    if _OUTPUT.value:
        check_writable(_OUTPUT.value, "output")
    devices, chip = describe(_TOPOLOGY.value)
    config = _CONFIG.value
    mesh = make_mesh(config.mesh, devices)

    def forecast(batch: int, effort: str) -> Forecast:
        if _PROGRAM.value == "sampling":
            return forecast_sampling(config, mesh, chip, batch, effort)
        config.phases[config.phase].batch_size = batch
        return forecast_training(config, mesh, chip, effort)

    batch = (_BATCH.value or mesh.size) if _PROGRAM.value == "sampling" else config.phases[config.phase].batch_size
    if _SEARCH.value:
        found = largest(batch, lambda size: forecast(size, "O1"), print)
        if not _QUICK.value:
            found = forecast(found.batch, "")
    else:
        found = forecast(batch, "O1" if _QUICK.value else "")
    text = found.text()
    print(text)
    if _OUTPUT.value:
        write_atomically(Path(_OUTPUT.value), f"{text}\n".encode())


def run() -> None:
    """Console entry."""
    cli.run(main)


if __name__ == "__main__":
    run()
