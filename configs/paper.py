"""ERNIE-ViLG 2.0 as published: 24B parameters (arXiv 2210.15257).

  python -m ernie_vilg_jax.prepare --config=configs/paper.py --config.data.sources='…' --output=gs://bucket/data
  python -m ernie_vilg_jax.train --config=configs/paper.py:autoencoder --config.data.path=gs://bucket/data --workdir=…
  python -m ernie_vilg_jax.train --config=configs/paper.py:base --config.data.path=… --workdir=…
  python -m ernie_vilg_jax.train --config=configs/paper.py:experts --config.data.path=… --workdir=…

Hardware: the authors used 320 A100 for 18 days, 350k + 90k steps on 170M pairs. Result to expect, theirs: zero-shot
FID-30k on MS-COCO at 256 x 256 of 8.07 with one expert and 7.23 with ten (6.75 re-ranked). Nobody has trained this
config with this code yet; its sizes are proven without allocating them (tests/models/test_sizes.py).
"""

from ml_collections import ConfigDict

from ernie_vilg_jax.config import default_config, parse_argument


def get_config(argument: str | None = None) -> ConfigDict:
    """After the colon: the phase, and `256` for the size at which FID is measured."""
    phase, variants = parse_argument(argument, {"256": None})
    c = default_config()
    c.phase = phase or c.phase
    if "256" in variants:
        c.model.image_size = 256
    c.model.unet.remat = True
    c.model.text_encoder.remat = True
    return c
