"""Encodes the images of prepared records once, so that training reads latents and touches no image.

  python -m ernie_vilg_jax.encode --config=configs/demo.py:base --input=data/demo --checkpoint=runs/demo \\
    --output=data/demo_latents
  python -m ernie_vilg_jax.train --config=configs/demo.py:base --config.data.path=data/demo_latents --workdir=runs/demo

--checkpoint names the run in which the autoencoder was trained, or any checkpoint that has it. Captions, key words and
boxes are kept: training still draws them. Held-out images stay images, for validation and previews. Sizes and crops are
those of the config (config.data.sizes, .crop, .smallest_side), with --crops random ones of each image.

Run the same command again after an interruption: finished shards are kept, and the result is the same, byte for byte.
On several machines start it on each of them, as `train`, with folders that all see: they share the shards.
"""

from __future__ import annotations

from absl import flags, logging
from ml_collections import config_flags

from ernie_vilg_jax import cli, shared_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config to train with: configs/NAME.py:base.")
_INPUT = flags.DEFINE_string("input", None, "Folder or URL that `prepare` or `annotate` wrote.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Folder or URL to write.", required=True)
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A run or checkpoint that has the autoencoder.", required=True)
_CROPS = flags.DEFINE_integer("crops", 1, "With config.data.crop=random: how many of each image.")
_DTYPE = flags.DEFINE_enum("dtype", "bfloat16", ["bfloat16", "float32"], "Of the posteriors' means and log-variances.")
shared_flags.define_processes()
flags.adopt_module_key_flags(shared_flags)
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    del argv
    peers = shared_flags.peers()
    if shared_flags.have_peers():
        cli.silence_runtime()

    from ernie_vilg_jax.encoding.encode import encode
    from ernie_vilg_jax.sharding import processes

    cli.enable_compilation_cache()
    with processes.together(*peers):
        encode(_CONFIG.value, _INPUT.value, _OUTPUT.value, _CHECKPOINT.value, crops=_CROPS.value, dtype=_DTYPE.value)
    logging.info("Train with --config.data.path=%s", _OUTPUT.value)


def run() -> None:
    """Console entry."""
    cli.run(main)


if __name__ == "__main__":
    run()
