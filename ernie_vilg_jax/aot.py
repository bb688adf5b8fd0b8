"""Says what training would take on a TPU slice, before you pay for one: does it fit, and how fast could it be.

  pip install libtpu
  python -m ernie_vilg_jax.aot --topology=v5p:4x4x8 --config=configs/paper.py:stage2 \\
    --config.mesh.expert=2 --config.mesh.data=1 --config.mesh.fsdp=64

Compiles the real training step with the real TPU compiler; no TPU is needed, but minutes and some 10 GB of memory
for the paper's size. Prints, for one chip: parameters, optimizer, activations, peak memory against what the chip has,
and the compiler's own estimate of the time.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ernie_vilg_jax import cli
from ernie_vilg_jax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "What would be trained: configs/NAME.py:stage1 or :stage2.")
_TOPOLOGY = flags.DEFINE_string("topology", None, "The slice: v5e:4x8, v5p:4x4x8, v6e:16x16, ...", required=True)
_OUTPUT = flags.DEFINE_string("output", "", "Also write the report to this file.")
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    del argv
    from ernie_vilg_jax.parallel.mesh import make_mesh
    from ernie_vilg_jax.parallel.topology import describe
    from ernie_vilg_jax.training.forecast import forecast_training

    devices, chip = describe(_TOPOLOGY.value)
    config = _CONFIG.value
    text = forecast_training(config, make_mesh(config.mesh, devices), chip).text()
    print(text)
    if _OUTPUT.value:
        try:
            Path(_OUTPUT.value).write_text(text + "\n")
        except OSError as error:
            raise UserError(f"--output={_OUTPUT.value} cannot be written ({error.strerror}): choose another") from error


def run() -> None:
    """Console entry."""
    cli.run(main)


if __name__ == "__main__":
    run()
