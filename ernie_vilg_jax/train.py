"""Trains the autoencoder, the base (text encoder and one U-Net) or the experts, in that order.

  python -m ernie_vilg_jax.train --config=configs/demo.py:autoencoder --config.data.path=data/demo --workdir=runs/demo
  python -m ernie_vilg_jax.train --config=configs/demo.py:base        --config.data.path=data/demo --workdir=runs/demo
  python -m ernie_vilg_jax.train --config=configs/demo.py:experts     --config.data.path=data/demo --workdir=runs/demo

The word after the colon is what is trained. Each goes to its own folder below --workdir: checkpoints, TensorBoard
scalars and picture grids, metrics.jsonl. The same command goes on where it stopped, also after SIGTERM, which saves
first (exit status 143). Any field of the config can be changed: --config.phases.base.steps=500 --config.seed=1.

On several machines, start the same command on each of them, with a --workdir that all see (gs://bucket/run, or a
mounted folder). --distributed finds the others on Cloud TPU pods, GKE, Slurm and Open MPI; elsewhere say who they are:

  ... --coordinator=10.0.0.2:1234 --num_processes=2 --process_id=0        on the host with that address
  ... --coordinator=10.0.0.2:1234 --num_processes=2 --process_id=1        on the other

Batch sizes are those of all processes together. When one process dies, the others stop within a minute (exit status
170). The same command for all of them goes on; there may be fewer or more of them. SIGTERM to one stops all.
"""

import sys

from absl import flags
from ml_collections.config_flags import config_flags

from ernie_vilg_jax import cli
from ernie_vilg_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, then a colon and what to train.", lock_config=True
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder or gs:// URL of the run; created if missing.")
DISTRIBUTED = flags.DEFINE_boolean("distributed", False, "One of several processes, which find each other.")
COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT at which process 0 can be reached; any free port.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "With --coordinator: how many processes there are.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "With --coordinator: which this one is, from 0.")
RESUME_FROM = flags.DEFINE_integer(
    "resume_from", None, "Go back to the checkpoint of this step; those after it are set aside, not deleted."
)
PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps", None, "Trace these steps into WORKDIR/PHASE/profile: 100:105 are the five after step 100."
)
ALLOW_CHANGES = flags.DEFINE_list(
    "allow_changes", [], "Fields of the config that may differ from those of the checkpoint, such as seed,data.weights."
)
STARTUP_TIMEOUT = flags.DEFINE_integer(
    "startup_timeout", 300, "Seconds that processes wait for each other at the start."
)


def main(argv: list[str]) -> None:
    config = CONFIG.value
    if config is None:
        raise UserError("--config is missing: name a file such as --config=configs/demo.py:base")
    if not WORKDIR.value:
        raise UserError("--workdir is missing: name a folder for checkpoints and logs, such as --workdir=runs/demo")
    if not config.data.path:
        raise UserError("--config.data.path is missing: name the folder that `python -m ernie_vilg_jax.prepare` wrote")

    peers = (DISTRIBUTED.value, COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value, STARTUP_TIMEOUT.value)
    if any(value is not None and value is not False for value in peers[:4]):
        cli.silence_runtime()

    from ernie_vilg_jax.sharding import processes
    from ernie_vilg_jax.training.loop import Stopped
    from ernie_vilg_jax.training.train import run as train

    cli.enable_compilation_cache()
    saved = None
    with processes.together(*peers):
        try:
            going_on = {"resume_from": RESUME_FROM.value, "allow_changes": ALLOW_CHANGES.value}
            train(config, WORKDIR.value, **going_on, profile_steps=PROFILE_STEPS.value)
        except Stopped as stopped:
            saved = f"{processes.name()}{stopped}"
    if saved:
        print(saved, file=sys.stderr)
        sys.exit(143)


def run() -> None:
    """Console entry point."""
    cli.run(main)


if __name__ == "__main__":
    run()
