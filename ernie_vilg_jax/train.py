"""Trains the autoencoder, stage 1 (text encoder and one U-Net) or stage 2 (the experts), in that order.

  python -m ernie_vilg_jax.train --config=configs/demo.py:autoencoder --config.data.path=data/demo --workdir=runs/demo
  python -m ernie_vilg_jax.train --config=configs/demo.py:stage1      --config.data.path=data/demo --workdir=runs/demo
  python -m ernie_vilg_jax.train --config=configs/demo.py:stage2      --config.data.path=data/demo --workdir=runs/demo

The word after the colon is what is trained. Each goes to its own folder below --workdir: checkpoints, TensorBoard
scalars and picture grids, metrics.jsonl. The same command goes on where it stopped, also after SIGTERM, which saves
first (exit status 143). Any field of the config can be changed: --config.stage1.steps=500 --config.seed=1.
"""

import sys
from pathlib import Path

from absl import flags
from ml_collections.config_flags import config_flags

from ernie_vilg_jax import cli
from ernie_vilg_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, then a colon and what to train.", lock_config=True
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; created if missing.")


def main(argv: list[str]) -> None:
    config = CONFIG.value
    if config is None:
        raise UserError("--config is missing: name a file such as --config=configs/demo.py:stage1")
    if not WORKDIR.value:
        raise UserError("--workdir is missing: name a folder for checkpoints and logs, such as --workdir=runs/demo")
    if not config.data.path:
        raise UserError("--config.data.path is missing: name the folder that `python -m ernie_vilg_jax.prepare` wrote")

    from ernie_vilg_jax.training.loop import Stopped
    from ernie_vilg_jax.training.run import run as train

    cli.enable_compilation_cache()
    try:
        train(config, Path(WORKDIR.value))
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(143)


def run() -> None:
    """Console entry point."""
    cli.run(main)


if __name__ == "__main__":
    run()
