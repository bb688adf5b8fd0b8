"""The paper's ablations on a model that two CPU cores train in minutes: drawn shapes, captions that distract.

  python -m benchmarks.ablations --work=ablations            # all cells; goes on where it stopped
  python -m benchmarks.ablations --work=ablations --report=docs

Variants, after the phase (`configs/small_ablation.py:base,textual`): `textual`, `visual` and `both` switch parts of the
knowledge enhancement on, with the paper's weights; without one of them it is off. The data are those of the source
`distracted`: captions leave half of the things out and speak of what the image does not show.
"""

from ml_collections import ConfigDict

from ernie_vilg_jax.config import default_config, parse_argument

# Few enough that a model which is trained for minutes draws some of its pairs right.
SHAPES = ("circle", "square", "triangle", "heart")
COLOURS = ("red", "yellow", "green", "blue")


def get_config(argument: str | None = None) -> ConfigDict:
    phase, variants = parse_argument(argument, VARIANTS)
    c = default_config()
    c.name = "small ablation"
    c.phase = phase or c.phase
    c.dtype = "float32"  # CPUs have no fast bf16

    c.model.image_size = 32
    c.model.autoencoder.channels = (96,)
    c.model.autoencoder.num_res_blocks = 1
    c.model.autoencoder.latent_channels = 8
    c.model.autoencoder.patch_size = 4  # latents of 8 x 8 x 8
    c.model.text_encoder.width = 64
    c.model.text_encoder.num_layers = 2
    c.model.text_encoder.num_heads = 2
    c.model.text_encoder.scan_layers = False
    c.model.unet.base_channels = 32
    c.model.unet.channel_multipliers = (1, 2)
    c.model.unet.num_res_blocks = 1
    c.model.unet.attention_downsamplings = (1, 2)
    c.model.unet.head_channels = 16
    c.experts.n = 1

    c.tokenizer.kind = "sentencepiece"
    c.tokenizer.vocab_size = 1024
    c.tokenizer.max_length = 56
    c.tokenizer.path = ""
    scenes = {"name": "distracted", "count": 20_000, "simple": True, "single": 0.1}
    c.data.sources = (ConfigDict({**scenes, "shapes": SHAPES, "colours": COLOURS}),)
    c.data.cache_latents = True
    c.data.language = "en"  # half as much to learn as two
    c.data.holdout_fraction = 0.1

    c.knowledge.enabled = False
    c.phases.autoencoder.steps, c.phases.autoencoder.batch_size = 800, 64
    c.phases.autoencoder.kl_weight = 0.01
    c.optimizer.name = "muon"
    # Not the paper's epsilon: with it, images of models that have seen so few are often noise (docs/ablations.md).
    c.diffusion.prediction_type = "v"
    c.phases.base.steps, c.phases.base.batch_size = 1500, 64
    c.phases.experts.steps, c.phases.experts.batch_size = 400, 64
    for section in c.phases.values():
        section.learning_rate = 1e-3 if section is c.phases.autoencoder else 2e-3
        section.warmup_steps = 100
        section.ema_decay = 0.995
    c.phases.autoencoder.decay_steps = 300
    c.phases.base.decay_steps = 600
    c.phases.experts.decay_steps = 150
    c.train.log_every = 100
    c.train.checkpoint_every = 400
    c.train.keep_checkpoints = 1
    c.train.validate_every = 400
    c.train.validation_samples = 256
    c.train.preview_every = 0
    c.train.latent_statistics_samples = 1024
    c.sample.guidance_scale = 3.0
    c.sample.steps = 25
    for variant in variants:
        VARIANTS[variant](c)
    return c


def both(c: ConfigDict) -> None:
    """Key words and objects, with the paper's weights; no captioner's captions, as there is none."""
    c.name += ", both"
    c.knowledge.enabled = True
    c.knowledge.generated_rate = 0.0


def textual(c: ConfigDict) -> None:
    """Special tokens and more attention for key words."""
    both(c)
    c.name = "small ablation, textual"
    c.knowledge.image_rate = c.knowledge.loss_weight = c.knowledge.append_rate = 0.0


def visual(c: ConfigDict) -> None:
    """More loss for objects, and their names in captions that leave them out."""
    both(c)
    c.name = "small ablation, visual"
    c.knowledge.text_rate = c.knowledge.attention_weight = 0.0
    c.knowledge.special_tokens = False


VARIANTS = {"textual": textual, "visual": visual, "both": both}
