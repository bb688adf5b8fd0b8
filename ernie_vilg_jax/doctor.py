"""The first minutes on a TPU or GPU: does this machine do what training and sampling need, and how fast?

  python -m ernie_vilg_jax.doctor
  python -m ernie_vilg_jax.doctor --config=paper:experts,v5p_128 --workdir=gs://bucket/doctor --distributed

Looks at versions and devices, arithmetic and memory, the attention kernel, a training step against the compiler's
estimate, sampling, and a checkpoint that is saved and restored. Data and weights are random: nothing is to be prepared.
It goes on after a failure, and prints a report to paste into an issue; exit status 1 if anything failed.

On several machines, start the same command on each of them, with --distributed (or --coordinator, --num_processes and
--process_id, as for `train`) and a --workdir that all see.
"""

import re
import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ernie_vilg_jax import cli
from ernie_vilg_jax.paths import check_writable, write_atomically

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "What to take a step of: configs/NAME.py:base or :experts. (default: small_100m)"
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder or gs:// URL in which a checkpoint is written, and deleted again; a temporary one without."
)
_EACH = flags.DEFINE_integer("each", 8, "Pictures of the training step for each device, at least.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", "", "Also write the report to this file.")
_DISTRIBUTED = flags.DEFINE_boolean("distributed", False, "One of several processes, which find each other.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT at which process 0 can be reached; any free port.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "With --coordinator: how many processes there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "With --coordinator: which this one is, from 0.")


def main(argv: list[str]) -> None:
    del argv
    peers = (_DISTRIBUTED.value, _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    if any(value is not None and value is not False for value in peers):
        cli.silence_runtime()
    from ernie_vilg_jax.diagnosis import sections
    from ernie_vilg_jax.diagnosis.program import Examination
    from ernie_vilg_jax.sharding import processes
    from ernie_vilg_jax.sharding.mesh import make_mesh

    if _OUTPUT.value:
        check_writable(_OUTPUT.value, "output")
    with processes.together(*peers):
        mesh = make_mesh(_CONFIG.value.mesh)
        first = processes.index() == 0
        examination = Examination(_CONFIG.value, mesh, _WORKDIR.value, _EACH.value)
        found = sections.run(examination.checks, print if first else lambda text: None)
        verdict = sections.summary(found)
        if first:
            print(verdict)
        if first and _OUTPUT.value:
            text = "\n".join([*(section.text() for section in found), verdict, ""])
            write_atomically(Path(_OUTPUT.value), text.encode())
    if any(section.verdict == "failed" for section in found):
        sys.exit(1)


def run() -> None:
    """Console entry point."""
    # Not the flag's default, which the config's other flags (--config.seed=1) do not change.
    if not any(re.match("--?config(=|$)", argument) for argument in sys.argv[1:]):
        sys.argv.insert(1, "--config=small_100m")
    cli.run(main)


if __name__ == "__main__":
    run()
