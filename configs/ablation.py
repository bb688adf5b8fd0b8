"""The size of the paper's ablations: a text encoder of 500M and U-Nets of 870M (876M here), at 256 x 256.

  python -m ernie_vilg_jax.train --config=configs/ablation.py:base --config.data.path=data/mine \\
    --workdir=runs/ablation

One expert or several: --config.experts.n=1, 2, 5, 10. Their states are sharded over all devices (mesh.fsdp=-1): those
of ten take 33 GiB on each of four chips of v5p (`train --dry_run --topology=v5p:2x2x1`). The 320 base channels and 24
layers of 1280 are inferred from the counts (the paper gives only the totals). Hours and results: not trained with
this code yet; the paper reports FID-10k against CLIP score as curves only.
"""

from ml_collections import ConfigDict

from ernie_vilg_jax.config import default_config, parse_argument


def get_config(argument: str | None = None) -> ConfigDict:
    phase, _ = parse_argument(argument, {})
    c = default_config()
    c.name = "ablation"
    c.phase = phase or c.phase
    c.model.image_size = 256
    c.model.text_encoder.width = 1280
    c.model.text_encoder.num_layers = 24
    c.model.text_encoder.num_heads = 20
    c.model.unet.base_channels = 320
    c.mesh.data, c.mesh.fsdp = 1, -1
    return c
