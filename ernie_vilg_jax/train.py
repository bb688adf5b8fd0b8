"""Trains the autoencoder, stage 1 (text encoder and one U-Net) or stage 2 (the experts), in that order.

  python -m ernie_vilg_jax.train --config=configs/demo.py:autoencoder --config.data.path=data/demo --workdir=runs/demo
  python -m ernie_vilg_jax.train --config=configs/demo.py:stage1      --config.data.path=data/demo --workdir=runs/demo
  python -m ernie_vilg_jax.train --config=configs/demo.py:stage2      --config.data.path=data/demo --workdir=runs/demo

The word after the colon is what is trained. Each goes to its own folder below --workdir: checkpoints, TensorBoard
scalars and picture grids, metrics.jsonl. The same command goes on where it stopped, also after SIGTERM, which saves
first (exit status 143). Any field of the config can be changed: --config.stage1.steps=500 --config.stage1.batch_size=32.
"""

import sys
from pathlib import Path

from absl import flags, logging
from ml_collections.config_flags import config_flags

from ernie_vilg_jax import cli
from ernie_vilg_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, then a colon and what to train.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; created if missing.")


def main(argv: list[str]) -> None:
    config = CONFIG.value
    if config is None:
        raise UserError("--config is missing: name a file such as --config=configs/demo.py:stage1")
    if not WORKDIR.value:
        raise UserError("--workdir is missing: name a folder for checkpoints and logs, such as --workdir=runs/demo")
    if not config.data.path:
        raise UserError("--config.data.path is missing: name the folder that `python -m ernie_vilg_jax.prepare` wrote")

    import jax
    from clu import parameter_overview

    from ernie_vilg_jax.data.tokenizers import load_tokenizer
    from ernie_vilg_jax.parallel.mesh import make_mesh
    from ernie_vilg_jax.system import build_system
    from ernie_vilg_jax.training import loop
    from ernie_vilg_jax.training.build import build_task

    cli.enable_compilation_cache()
    workdir = Path(WORKDIR.value)
    tokenizer = load_tokenizer(config)
    with config.unlocked():
        config.tokenizer.vocab_size = tokenizer.vocab_size
    system = build_system(config)
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        task = build_task(config, system, tokenizer, mesh, workdir)
        logging.info("%s on %d x %s", config.target, jax.device_count(), jax.devices()[0].device_kind)
        for name, tree in task.parameters.items():
            logging.info("%s: %.1fM parameters", name, parameter_overview.count_parameters(tree) / 1e6)
        try:
            loop.train(task, config, tokenizer, mesh, workdir / config.target)
        except loop.Stopped as stopped:
            print(stopped, file=sys.stderr)
            sys.exit(143)


def run() -> None:
    """Console entry point."""
    cli.run(main)


if __name__ == "__main__":
    run()
