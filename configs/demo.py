"""A small ERNIE-ViLG 2.0 that learns emoji art and drawn shapes on two CPU cores: 64 x 64 pixels, four experts.

  python -m ernie_vilg_jax.prepare --config=configs/demo.py --output=data/demo
  python -m ernie_vilg_jax.train --config=configs/demo.py:autoencoder --config.data.path=data/demo --workdir=runs/demo
  python -m ernie_vilg_jax.train --config=configs/demo.py:base        --config.data.path=data/demo --workdir=runs/demo
  python -m ernie_vilg_jax.train --config=configs/demo.py:experts     --config.data.path=data/demo --workdir=runs/demo

Hardware and time: two cores of a 2.5 GHz Xeon; about 15 minutes, 35 minutes and 10 minutes. The checkpoint in the
package is of the variant `composed`, which takes minutes on a GPU; docs/demo.md has its commands, losses and images.

Variants, after the phase (`configs/demo.py:base,quick`): `quick` runs all phases in minutes, `smoke` in seconds
on drawn shapes, `shapes` needs no download, `wide` has all everyday things in all styles, `composed`
has composed scenes of them and holds combinations out.
"""

from ml_collections import ConfigDict

from ernie_vilg_jax.config import default_config, parse_argument

ALL_STYLES = (
    *("noto", "noto-v1", "fluent-emoji-flat", "fluent-emoji", "fluent-emoji-3d", "fxemoji", "twemoji", "emojione"),
)
# Two cores can learn this much in an hour: few things in few styles.
STYLES = ("noto", "fluent-emoji-flat", "fluent-emoji-3d", "twemoji")
THINGS = (
    *("dog", "cat", "lion", "tiger", "horse", "pig", "rabbit", "panda", "koala", "bear", "elephant", "monkey", "fox"),
    *("penguin", "owl", "chick", "duck", "frog", "turtle", "whale", "dolphin", "octopus", "tropical fish", "crab"),
    *("butterfly", "bee", "ladybug", "red apple", "green apple", "banana", "orange", "lemon", "grapes", "strawberry"),
    *("cherries", "pineapple", "carrot", "mushroom", "tomato", "eggplant", "loaf of bread", "hamburger", "egg"),
    *("slice of pizza", "ice cream cone", "birthday cake", "doughnut", "cup of coffee", "car", "bus", "airplane"),
    *("rocket", "sailboat", "bicycle", "traffic light", "sun", "cloud", "rainbow", "snowman", "tree", "sunflower"),
    *("rose", "tulip", "cactus", "house", "castle", "tent", "umbrella", "red balloon", "guitar", "drum"),
    *("soccer ball", "basketball", "light bulb", "key", "crown", "top hat", "gift box", "camera", "bell"),
)


def get_config(argument: str | None = None) -> ConfigDict:
    phase, variants = parse_argument(argument, VARIANTS)
    c = default_config()
    c.name = "demo"
    c.phase = phase or c.phase
    c.dtype = "float32"  # CPUs have no fast bf16

    c.model.image_size = 64
    c.model.autoencoder.channels = (96, 128)
    c.model.autoencoder.num_res_blocks = 1
    c.model.autoencoder.latent_channels = 16
    c.model.autoencoder.patch_size = 4  # f = 8: latents of 8 x 8 x 16
    c.model.text_encoder.width = 128
    c.model.text_encoder.num_layers = 3
    c.model.text_encoder.num_heads = 4
    c.model.text_encoder.scan_layers = False  # of no use for three layers
    c.model.unet.base_channels = 80
    c.model.unet.channel_multipliers = (1, 2)
    c.model.unet.num_res_blocks = 1
    c.model.unet.attention_downsamplings = (2,)
    c.model.unet.head_channels = 40
    c.experts.n = 4

    c.tokenizer.kind = "sentencepiece"
    c.tokenizer.vocab_size = 4096
    c.tokenizer.max_length = 24
    c.tokenizer.path = ""

    emoji = ConfigDict({"name": "emoji", "concepts": "everyday", "only": THINGS, "styles": STYLES})
    scenes = ConfigDict({"name": "scenes", "count": 3000, "objects": "shapes", "simple": True})
    c.data.sources = (emoji, scenes)
    c.data.cache_latents = True
    c.data.weights = ConfigDict({"emoji": 3.0, "scenes": 1.0})

    c.knowledge.enabled = False  # see the variant `knowledge`

    c.phases.autoencoder.steps, c.phases.autoencoder.batch_size = 1000, 32
    c.phases.autoencoder.kl_weight = 3 * 64**2 * 1e-6  # what version 0.1 called 1e-6
    c.phases.base.steps, c.phases.base.batch_size = 2600, 64
    c.phases.experts.steps, c.phases.experts.batch_size = 500, 64
    for section in c.phases.values():
        section.learning_rate = 1e-3
        section.warmup_steps = 100
        section.ema_decay = 0.999
    c.phases.autoencoder.decay_steps, c.phases.base.decay_steps, c.phases.experts.decay_steps = 400, 1000, 200
    c.phases.experts.learning_rate = 2e-4

    c.train.log_every = 50
    c.train.checkpoint_every = 250
    c.train.validate_every = 500
    c.train.validation_samples = 64
    c.train.preview_every = 500
    c.train.preview_prompts = (
        *("一只猫", "红苹果", "一朵向日葵", "红色的圆形在蓝色的正方形的左边"),
        *("dog", "a car", "a slice of pizza", "a yellow star above a green triangle"),
    )
    c.train.latent_statistics_samples = 1024
    c.sample.guidance_scale = 3.0
    for variant in variants:
        VARIANTS[variant](c)
    return c


def shapes(c: ConfigDict) -> None:
    """Drawn shapes only: nothing to download."""
    c.data.sources = (ConfigDict({"name": "scenes", "count": 3000, "objects": "shapes", "simple": True}),)
    c.data.weights = ConfigDict()


def quick(c: ConfigDict) -> None:
    """All phases in minutes: forty things, a smaller model, few steps. Losses fall; images stay blobs."""
    c.name = "demo, quick"
    emoji = ConfigDict({"name": "emoji", "concepts": "everyday", "only": THINGS[:40], "styles": STYLES})
    c.data.sources, c.data.weights = (emoji,), ConfigDict()
    c.data.holdout_fraction = 0.05
    c.model.autoencoder.channels = (64, 96)
    c.model.unet.base_channels = c.model.unet.head_channels = 48
    c.phases.autoencoder.steps, c.phases.autoencoder.decay_steps = 160, 80
    c.phases.base.steps, c.phases.base.batch_size, c.phases.base.decay_steps = 400, 32, 100
    c.phases.experts.steps, c.phases.experts.batch_size, c.phases.experts.decay_steps = 80, 32, 20
    c.train.validation_samples = 16
    c.train.checkpoint_every = c.train.validate_every = 100
    c.train.preview_every = 0
    c.train.preview_prompts = ("一只熊猫", "a butterfly", "一个红苹果", "a fox")
    c.train.log_every = 20


def smoke(c: ConfigDict) -> None:
    """All phases in seconds, on drawn shapes: shows that they run, not that they learn."""
    c.name = "demo, smoke"
    c.data.sources = (ConfigDict({"name": "scenes", "count": 96, "objects": "shapes", "simple": True}),)
    c.data.weights, c.data.num_shards, c.data.holdout_fraction = ConfigDict(), 2, 0.1
    c.tokenizer.vocab_size, c.tokenizer.max_length = 512, 16
    c.model.image_size = 16
    c.model.autoencoder.channels, c.model.autoencoder.latent_channels = (16,), 4
    c.model.text_encoder.width, c.model.text_encoder.num_layers, c.model.text_encoder.num_heads = 16, 1, 2
    c.model.unet.base_channels = c.model.unet.head_channels = 8
    c.model.unet.channel_multipliers, c.model.unet.attention_downsamplings = (1,), ()  # the middle has attention
    c.experts.n = 2
    c.data.cache_latents = False
    for section in c.phases.values():
        section.steps, section.batch_size, section.warmup_steps, section.decay_steps = 8, 8, 2, 0
    c.train.log_every, c.train.checkpoint_every, c.train.validate_every, c.train.preview_every = 2, 4, 8, 8
    c.train.validation_samples, c.train.latent_statistics_samples = 8, 32
    c.train.preview_prompts = ("红色的圆形", "a blue square")
    c.sample.steps = 4


def wide(c: ConfigDict) -> None:
    """All everyday things in all styles: more than two cores learn in an hour, but a starting point for other runs."""
    c.name = "demo, wide"
    emoji = ConfigDict({"name": "emoji", "concepts": "everyday", "styles": ALL_STYLES})
    scenes = ConfigDict({"name": "scenes", "count": 3000, "objects": "shapes", "simple": True})
    c.data.sources = (emoji, scenes)


def composed(c: ConfigDict) -> None:
    """Scenes of 228 things in many colours, numbers, relations and styles: minutes on a GPU, many hours on CPUs."""
    c.name = "demo, composed"
    c.data.sources = (ConfigDict({"name": "composed", "count": 300_000, "captions": 4}),)
    c.data.weights, c.data.holdout_fraction, c.data.num_shards = ConfigDict(), 0.02, 32
    c.data.cache_latents, c.data.resident = False, True
    c.tokenizer.max_length = 40
    c.model.text_encoder.width, c.model.text_encoder.num_heads, c.model.text_encoder.num_layers = 192, 6, 4
    c.model.unet.attention_downsamplings = (1, 2)
    c.model.unet.base_channels, c.model.unet.head_channels = 96, 32
    # Samples are what two cores lack, and both are said to learn more from each; not compared with the defaults here.
    c.optimizer.name = "muon"
    c.diffusion.min_snr_gamma = 5.0
    c.phases.autoencoder.batch_size, c.phases.base.batch_size, c.phases.experts.batch_size = 256, 1024, 256
    c.phases.autoencoder.steps, c.phases.autoencoder.decay_steps = 1500, 750
    c.phases.base.steps, c.phases.base.decay_steps = 7500, 3000
    c.phases.experts.steps, c.phases.experts.decay_steps, c.phases.experts.ema_decay = 720, 700, 0.998
    c.phases.base.learning_rate, c.phases.base.warmup_steps = 1.5e-3, 300
    c.phases.experts.learning_rate, c.phases.experts.warmup_steps = 4e-4, 20
    c.train.validate_every, c.train.validation_samples, c.train.preview_every = 1000, 256, 0
    c.train.preview_prompts = (
        *("a panda with a red hat", "a blue apple and a red banana", "三只黄色的鸟", "a square above a circle"),
        *("绿色的爱心在紫色的星星的左边", "two red cars", "an astronaut on a horse", "一幅苹果的水彩画"),
    )


def knowledge(c: ConfigDict) -> None:
    """Key words and objects get more attention and more loss: for data annotated by `annotate`."""
    c.name += ", knowledge"
    c.knowledge.enabled = True


VARIANTS = {
    "knowledge": knowledge,
    "composed": composed,
    "wide": wide,
    "shapes": shapes,
    "quick": quick,
    "smoke": smoke,
}
