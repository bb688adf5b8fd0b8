"""ERNIE-ViLG 2.0 as published: 24B parameters (arXiv 2210.15257).

  python -m ernie_vilg_jax.prepare --config=configs/paper.py --tars='gs://bucket/pairs/*.tar' \\
    --output=gs://bucket/data --workers=16

Then, on every machine of a slice of 128 chips of v5p (type v5p-256, topology v5p:4x4x8), one after the other:

  python -m ernie_vilg_jax.train --config=configs/paper.py:autoencoder,v5p_256 --config.data.path=gs://bucket/data \\
    --workdir=gs://bucket/run --distributed
  python -m ernie_vilg_jax.encode --config=configs/paper.py:base,v5p_256 --input=gs://bucket/data \\
    --output=gs://bucket/latents --checkpoint=gs://bucket/run --distributed
  python -m ernie_vilg_jax.train --config=configs/paper.py:base,v5p_256 --config.data.path=gs://bucket/latents \\
    --workdir=gs://bucket/run --distributed
  python -m ernie_vilg_jax.train --config=configs/paper.py:experts,v5p_256 --config.data.path=gs://bucket/latents \\
    --workdir=gs://bucket/run --distributed

Records are read from the bucket where they lie (launch/README.md). Check a command on any machine before you pay for a
slice: --dry_run --topology=v5p:4x4x8.

Variants, after the phase: the slice, which sets its mesh and a batch divisible by ten experts and the mesh; and `256`,
the size in pixels at which FID is measured, `shapes`, the three sizes that the authors' product draws, or `mini`, all
sizes reduced (`python -m benchmarks.mini`).

  v5p_256   128 chips, v5p:4x4x8    expert=2, fsdp=64    2,560 images a step
  v5p_128    64 chips, v5p:4x4x4    expert=2, fsdp=32    2,560 images a step
  v6e_256   256 chips, v6e:16x16    expert=2, fsdp=128   5,120 images a step

The autoencoder and the base have no experts to divide: there the devices along `expert` are moved to `data`. Several
slices are more devices along `data`. Without a variant all devices are along `fsdp`.

Hardware: the authors used 320 A100 for 18 days, 350k + 90k steps on 170M pairs. Result to expect, theirs: zero-shot
FID-30k on MS-COCO at 256 x 256 of 8.07 with one expert and 7.23 with ten (6.75 re-ranked). This config has not been
trained with this code yet; its sizes are tested without allocating them (tests/models/test_sizes.py), and docs/tpu.md
has the compiler's figures for its memory.
"""

from ml_collections import ConfigDict

from ernie_vilg_jax.config import default_config, parse_argument


def get_config(argument: str | None = None) -> ConfigDict:
    """After the colon: the phase, the slice, and `256` for the size at which FID is measured."""
    phase, variants = parse_argument(argument, VARIANTS)
    c = default_config()
    c.phase = phase or c.phase
    c.model.unet.remat = True
    c.model.text_encoder.remat = True
    c.mesh.data, c.mesh.fsdp = 1, -1  # ten experts do not fit a chip, so they are sharded over all of them
    for variant in variants:
        VARIANTS[variant](c)
    return c


def small_images(c: ConfigDict) -> None:
    c.model.image_size = 256


def shapes(c: ConfigDict) -> None:
    """Squares, wide and high images, with 1024 pixels on the shorter side; those below 512 are left out."""
    c.data.sizes = ((1024, 1024), (1024, 1536), (1536, 1024))
    c.data.smallest_side = 512


def v5p_256(c: ConfigDict) -> None:
    _slice(c, fsdp=64, batch_size=2560)


def v5p_128(c: ConfigDict) -> None:
    _slice(c, fsdp=32, batch_size=2560)


def v6e_256(c: ConfigDict) -> None:
    _slice(c, fsdp=128, batch_size=5120)
    c.phases.base.accumulation_steps = 4  # 20 images at once, or 10, do not fit a chip that encodes them, too


def mini(c: ConfigDict) -> None:
    """Every size reduced, for eight fake devices: shows that all phases run, not that they learn."""
    c.name = "paper, mini"
    c.data.sources = (ConfigDict({"name": "scenes", "count": 96, "objects": "shapes", "simple": True}),)
    c.data.num_shards, c.data.holdout_fraction = 2, 0.1
    c.tokenizer.kind, c.tokenizer.path = "sentencepiece", ""
    c.tokenizer.vocab_size, c.tokenizer.max_length = 512, 16
    c.model.image_size = 64
    c.model.autoencoder.channels, c.model.autoencoder.num_res_blocks = (8, 8, 16, 16), 1
    c.model.autoencoder.norm_groups = 8
    c.model.text_encoder.width, c.model.text_encoder.num_layers, c.model.text_encoder.num_heads = 32, 2, 2
    c.model.unet.base_channels, c.model.unet.num_res_blocks, c.model.unet.head_channels = 16, 1, 8
    c.model.unet.channel_multipliers, c.model.unet.attention_downsamplings = (1, 2), (2,)
    c.experts.n = 4
    c.mesh.expert, c.mesh.data, c.mesh.fsdp = 2 if c.phase == "experts" else 1, -1, 2
    for section in c.phases.values():
        section.steps, section.batch_size, section.warmup_steps = 4, 32, 2
    c.phases.autoencoder.crop_size = 32
    c.phases.base.accumulation_steps = 2
    c.train.log_every, c.train.checkpoint_every, c.train.validate_every = 1, 2, 4
    c.train.preview_every = 0 if c.phase == "experts" else 4  # a job that trains some of the experts has no previews
    c.train.validation_samples, c.train.latent_statistics_samples = 8, 32
    c.train.preview_prompts = ("红色的圆形", "a blue square")
    c.sample.steps = 8


def _slice(c: ConfigDict, fsdp: int, batch_size: int) -> None:
    """Two groups of `fsdp` devices: each trains half of the experts, or half of the batch."""
    c.mesh.expert = 2 if c.phase == "experts" else 1
    c.mesh.data, c.mesh.fsdp = -1, fsdp
    c.phases.base.batch_size = c.phases.experts.batch_size = batch_size


SLICES = {"v5p_256": v5p_256, "v5p_128": v5p_128, "v6e_256": v6e_256}
VARIANTS = {"256": small_images, "shapes": shapes, "mini": mini, **SLICES}
