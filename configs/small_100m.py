"""A small ERNIE-ViLG 2.0 for one TPU VM or one GPU: U-Nets of 108M, a text encoder of 49M, 256 x 256 pixels.

  python -m ernie_vilg_jax.prepare --config=configs/small_100m.py --folder=my_images --output=data/mine
  python -m ernie_vilg_jax.train --config=configs/small_100m.py:autoencoder --config.data.path=data/mine \\
    --workdir=runs/small
  python -m ernie_vilg_jax.train --config=configs/small_100m.py:base --config.data.path=data/mine \\
    --workdir=runs/small
  python -m ernie_vilg_jax.train --config=configs/small_100m.py:experts --config.data.path=data/mine \\
    --workdir=runs/small

On one GPU add `one_gpu` (configs/small_100m.py:base,one_gpu): the same batch, in micro-batches. `knowledge`: for data
annotated by `annotate`.

Hardware: eight chips of v5e or v6e (v5litepod-8, v6e-8), or a GPU of 40 GB or more. A step's share of the 16 GiB
of a v5e chip, by its compiler: experts 3.6 GiB, base 4.3 GiB
(`python -m ernie_vilg_jax.aot --topology=v5e:2x4 --config=small_100m:experts --quick`; the autoencoder's step was not
compiled). On one GPU base and experts keep 2.7 and 16.6 GiB between steps; their additional memory was not measured.

Not trained yet: the steps are guesses, and neither hours nor results are known. Try it first:
`python -m ernie_vilg_jax.doctor --config=small_100m` measures a step, `train --dry_run` checks a command.
"""

from ml_collections import ConfigDict

from ernie_vilg_jax.config import default_config, parse_argument


def get_config(argument: str | None = None) -> ConfigDict:
    phase, variants = parse_argument(argument, VARIANTS)
    c = default_config()
    c.name = "small_100m"
    c.phase = phase or c.phase

    c.model.image_size = 256
    c.model.autoencoder.remat = True
    c.model.text_encoder.width = 512
    c.model.text_encoder.num_layers = 12
    c.model.text_encoder.num_heads = 8
    c.model.unet.base_channels = 128
    c.model.unet.num_res_blocks = 2

    c.knowledge.enabled = False  # see the variant `knowledge`
    c.mesh.data, c.mesh.fsdp = 1, -1  # ten experts are sharded over all devices

    c.phases.autoencoder.steps, c.phases.autoencoder.batch_size = 100_000, 64
    c.phases.base.steps, c.phases.base.batch_size = 200_000, 320
    c.phases.experts.steps, c.phases.experts.batch_size = 50_000, 320
    for variant in variants:
        VARIANTS[variant](c)
    return c


def one_gpu(c: ConfigDict) -> None:
    """The same batches in micro-batches, for one device."""
    c.phases.base.accumulation_steps = 8
    c.phases.autoencoder.batch_size = 16  # it has no micro-batches


def knowledge(c: ConfigDict) -> None:
    """Key words and objects get more attention and more loss: for data annotated by `annotate`."""
    c.knowledge.enabled = True


VARIANTS = {"one_gpu": one_gpu, "knowledge": knowledge}
