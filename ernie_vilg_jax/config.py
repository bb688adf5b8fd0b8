"""Every setting, with the paper's value as its default.

Tags in the comments: [P] the paper or its authors' page; [N] a reading note of the paper; [I] inferred or computed;
[?] unknown, a guess. `configs/*.py` start from `default_config()` and change numbers; the command line overrides both:
`--config=configs/demo.py:base --config.phases.base.steps=500`.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from ernie_vilg_jax.sampling_params import DEFAULTS

PHASES = ("autoencoder", "base", "experts")
"""The phases of `train`, in this order: the autoencoder; text encoder and one U-Net; a U-Net for each stage."""
OLD_PHASES = {"stage1": "base", "stage2": "experts"}
"""Names up to version 0.1: still read on the command line, in checkpoints and as folders of a run."""


def default_config() -> ConfigDict:
    """ERNIE-ViLG 2.0 as published: 24B parameters, 1.3B of text encoder and ten U-Nets of 2.2B."""
    c = ConfigDict()
    c.name = "paper"
    c.seed = 0
    c.phase = "base"  # what `train` trains: one of PHASES
    c.dtype = "bfloat16"  # of computation; parameters, norms, softmax and loss stay fp32

    c.model = ConfigDict()
    c.model.image_size = 1024  # square pixels [P]
    c.model.autoencoder = ConfigDict()
    c.model.autoencoder.channels = (128, 256, 512, 512)  # four levels: f = 8 [?]
    c.model.autoencoder.num_res_blocks = 2  # [?]
    c.model.autoencoder.latent_channels = 4  # [N]
    c.model.autoencoder.patch_size = 1  # space-to-depth before the first convolution; ours, for small machines
    c.model.autoencoder.norm_groups = 32  # of each GroupNorm [?]
    # GroupNorm's variance as E[(x - mean)^2], not E[x^2] - mean^2, which in fp32 is wrong by percents if the mean is a
    # hundred standard deviations. Ours; models trained before this field existed keep the latter.
    c.model.autoencoder.two_pass_norm = True
    c.model.autoencoder.remat = False  # recompute the insides of blocks in the backward pass
    # Of its matrix products on TPU: "default" rounds the factors to bf16; "high" (3 products) and "highest" (6) keep
    # fp32 accuracy. Ours; it has no effect elsewhere.
    c.model.autoencoder.precision = "high"
    c.model.text_encoder = ConfigDict()
    c.model.text_encoder.width = 2048  # [N]
    c.model.text_encoder.num_layers = 24  # [N]
    c.model.text_encoder.num_heads = 32  # [N]
    c.model.text_encoder.norm = "pre"  # before each layer [?]; "post", after its residual sums, is BERT's and ERNIE's
    c.model.text_encoder.activation = "gelu_tanh"  # [?]; "gelu", without approximation, is BERT's; or "relu"
    c.model.text_encoder.mlp_width = 0  # 0 is four times the width [?]
    c.model.text_encoder.norm_epsilon = 1e-6  # [?]; BERT's is 1e-12
    c.model.text_encoder.remat = False
    c.model.text_encoder.scan_layers = True  # one compiled layer in a loop; ours, for compile time
    c.model.unet = ConfigDict()
    c.model.unet.base_channels = 512  # [N]
    c.model.unet.channel_multipliers = (1, 2, 3, 4)  # [N]
    c.model.unet.num_res_blocks = 3  # a level [N]
    c.model.unet.attention_downsamplings = (2, 4, 8)  # [N]
    c.model.unet.head_channels = 64  # [N]
    c.model.unet.dropout = 0.0  # [N]
    c.model.unet.pooled_text = True  # pooled text added to the time embedding, as in GLIDE [?]
    c.model.unet.remat = False  # recompute the insides of blocks in the backward pass: less memory, more time
    c.model.unet.remat_keep = "nothing"  # of the insides; or "heavy", results of convolutions and projections

    # On TPU, attention over at least this many positions uses a kernel that never writes its logits; 0 is off. Ours.
    c.model.attention_kernel_from = 1024

    c.diffusion = ConfigDict()
    c.diffusion.schedule = "linear"  # [N]; "scaled_linear" is latent diffusion's
    c.diffusion.num_timesteps = 1000  # [N]
    c.diffusion.beta_start = 1e-4  # [?]
    c.diffusion.beta_end = 2e-2  # [?]
    # The following fields are ours, from later papers (docs/training.md), and off.
    c.diffusion.prediction_type = "epsilon"  # of the U-Net [N]; or "v", or "x0"
    c.diffusion.zero_terminal_snr = False  # no signal at the last timestep; not for epsilon
    c.diffusion.min_snr_gamma = 0.0  # limit of the SNR in the loss weights; 0 is off, 5 is usual

    c.experts = ConfigDict()
    c.experts.n = 10  # [P]
    c.experts.stages = "uniform"  # [N]; "log_snr", or the first timestep of each stage after stage 0: "250,500,750"
    c.experts.train = ()  # stages whose experts the phase `experts` trains; () is all of them
    c.experts.train_text_encoder = False  # in the phase `experts` [?]

    c.tokenizer = ConfigDict()
    c.tokenizer.kind = "bert"  # or "sentencepiece", trained by `prepare`
    c.tokenizer.vocab_size = 21128  # [N]
    c.tokenizer.max_length = 77  # [N]
    # Folder or hub name of the BERT vocabulary; for "sentencepiece", a prepared data set's tokenizer/ to use again.
    c.tokenizer.path = "bert-base-chinese"

    c.data = ConfigDict()
    c.data.path = ""  # folder that `prepare`, `annotate` or `encode` wrote
    c.data.sources = ()  # the input of `prepare`: a tuple of ConfigDicts with a `name` and that source's options
    c.data.holdout_fraction = 0.02  # of the concepts
    c.data.num_shards = 8  # of the train split; some 100 MB to 1 GB each
    c.data.holdout_shards = 1
    # What `prepare` leaves out; 0 keeps all (preparation/filters.py says more).
    c.data.filters = ConfigDict()
    c.data.filters.min_side = 0  # pixels
    c.data.filters.max_aspect = 0.0  # longer side over shorter side
    c.data.filters.min_characters = 0  # of a caption
    c.data.filters.max_characters = 0
    c.data.filters.forbidden = ()  # regular expressions; captions that match are dropped
    c.data.filters.near_duplicates = False  # drop images that are nearly another one, by a perceptual hash
    c.data.verify_shards = True  # compare all shards with the manifest's sha256 at start, at over 1 GB/s a process
    c.data.workers = 0  # processes that decode images; 0 does it in threads of this one
    c.data.threads = 16  # that read and decode the examples of a batch, in each such process
    # Encode the images once, at start, into each process's memory: for small data. `encode` does it for large data.
    c.data.cache_latents = False
    # The same on the devices, where batches are drawn, too: for a small model on an accelerator, which waits for the
    # process otherwise. Without knowledge; another order than the loader's.
    c.data.resident = False
    # Captions drawn: "zh", "en" or "both". The share of Chinese in the paper's 170M pairs is unknown [?].
    c.data.language = "both"
    c.data.crop = "center"  # of images of another aspect; or "random", with up to 15% of zoom
    # Sizes as (height, width), of which each image gets the one of the nearest aspect: ((1024, 1024), (1536, 1024)).
    # A batch has one size. (): model.image_size alone. Ours; so is the next field.
    c.data.sizes = ()
    c.data.smallest_side = 0  # pixels; images with a smaller side are left out of training
    c.data.weights = ConfigDict()  # share of each source in a batch, by name; empty: in proportion to its records

    # In training only, on data annotated by `annotate`; each part has its own switch.
    c.knowledge = ConfigDict()
    c.knowledge.enabled = True  # False: plain captions, plain loss, whatever the fields below say
    c.knowledge.text_rate = 0.5  # share of samples whose key words get special tokens and more attention [N]
    c.knowledge.special_tokens = True  # "[a]灰色的[n]猫" [N]
    c.knowledge.attention_weight = 0.01  # w_a: attention to key words is multiplied by 1 + w_a; 0 is off [N]
    c.knowledge.attention_weight_on = "logits"  # or "softmax", the attention probabilities [?]
    c.knowledge.image_rate = 0.5  # share of samples whose salient objects get more loss [N]
    c.knowledge.loss_weight = 0.1  # w_l: the loss inside their boxes is multiplied by 1 + w_l; 0 is off [P]
    c.knowledge.loss_weight_on = "error"  # the squared error; or "residual", so that the weight counts twice [?]
    c.knowledge.min_score = 0.5  # of a salient object [I]
    c.knowledge.top_k = 5  # salient objects an image, by area x score [I]
    c.knowledge.append_rate = 1.0  # share of samples to whose caption missing salient objects are appended [?]
    c.knowledge.generated_rate = 0.25  # share of captions replaced by a captioner's, where there is one [?]

    c.optimizer = ConfigDict()
    c.optimizer.b1 = 0.9  # [N]
    c.optimizer.b2 = 0.999  # [N]
    c.optimizer.weight_decay = 0.01  # [N]
    c.optimizer.mu_dtype = "float32"  # of Adam's first moment; "bfloat16" saves 2 of the 16 bytes a parameter
    c.optimizer.clip_norm = 1.0  # gradient norm above which it is scaled down; 0 is off [?]
    # The following fields are ours (docs/training.md).
    c.optimizer.name = "adamw"  # [N]; "adafactor" keeps less, "muon" makes updates of matrices orthogonal
    c.optimizer.spike_factor = 0.0  # gradients this many times as large as usual are skipped; 0 is off
    c.optimizer.ema_dtype = "float32"  # of the moving averages; "bfloat16" saves 2 of the 16 bytes a parameter

    # The phases of training: the paper for the steps and the rate, guesses for the rest.
    c.phases = ConfigDict()
    for phase, steps in (("autoencoder", 500_000), ("base", 350_000), ("experts", 90_000)):
        section = ConfigDict()
        section.steps = steps  # [N]; the autoencoder's are a guess [?]
        # Global [?]: 2048 is the usual guess; `experts` divides it evenly among the experts it trains, here ten.
        section.batch_size = 2560
        section.learning_rate = 0.9e-4  # [N]
        section.warmup_steps = 1000  # [?]
        section.decay_steps = 0  # last steps, over which the rate falls linearly to 0; 0 keeps it fixed [N]
        section.ema_decay = 0.9999  # [?]
        section.accumulation_steps = 1  # micro-batches a step
        c.phases[phase] = section
    c.phases.autoencoder.batch_size = 256
    # A run or checkpoint to begin from (its averages, its autoencoder), to fine-tune it; docs/finetuning.md.
    c.phases.base.init_from = c.phases.experts.init_from = ""
    # Or single parts: the output of `checkpoint import_*` (docs/weights.md), or a run or checkpoint with the part.
    c.phases.base.autoencoder_from = ""  # instead of one trained in this run
    c.phases.base.text_encoder_from = ""
    c.phases.base.unet_from = ""
    c.phases.autoencoder.crop_size = 256  # pixels of the squares it is trained on; 0 or larger images: whole images [?]
    # All three weigh means over the values of the pixels; up to version 0.1 the KL was a sum: 3 H W times as large.
    c.phases.autoencoder.kl_weight = 1e-6  # of latent diffusion [?]
    c.phases.autoencoder.l1_weight = 1.0  # [?]; no adversarial term
    c.phases.autoencoder.l2_weight = 1.0  # [?]
    # A .safetensors file of LPIPS (docs/weights.md): a perceptual loss beside that of pixels; "" is off. [?]
    c.phases.autoencoder.perceptual_weights = ""
    c.phases.autoencoder.perceptual_weight = 1.0

    # Low-rank adapters trained in place of the parameters, in `base` and `experts` with init_from; docs/finetuning.md.
    c.lora = ConfigDict()
    c.lora.rank = 0  # 0 is off
    c.lora.alpha = 0.0  # adapters are multiplied by alpha / rank; 0 is alpha = rank
    c.lora.targets = ("attn", "/emb$", "conv")  # regexes of modules of the U-Net, such as "down_0_attn_0/qkv"
    c.lora.text_targets = ("qkv", "mlp", "tokens")  # of the text encoder; () leaves it as it is

    c.train = ConfigDict()
    c.train.caption_dropout = 0.1  # share of captions replaced by the empty one, for guidance [?]
    c.train.log_every = 100
    c.train.logs = ("tensorboard",)  # besides metrics.jsonl; "wandb" too, with the extra `wandb`
    c.train.checkpoint_every = 1000  # and at the end
    c.train.keep_checkpoints = 3
    # Also keeps the best by this value of validation ("loss") or evaluation ("alignment"); "" is off. Then a checkpoint
    # is saved at each of them. It is found as --checkpoint=RUN/best.
    c.train.keep_best = ""
    c.train.validate_every = 1000  # and at the end; 0: never
    c.train.validation_samples = 256  # held-out images in the fixed validation set
    c.train.preview_every = 5000  # and at the end; 0: never
    c.train.preview_prompts = ("一只猫", "a red apple", "一辆蓝色的汽车", "a house by the sea")
    c.train.latent_statistics_samples = 4096  # images for the mean and standard deviation of latents

    c.evaluation = ConfigDict()  # of the EMA weights, while they are trained; docs/evaluation.md
    c.evaluation.every = 0  # steps, and at the end; 0: never
    c.evaluation.metrics = ("alignment",)
    c.evaluation.prompts = ""  # a file of prompts; "" takes those of the previews
    c.evaluation.num_images = 4  # of each prompt
    c.evaluation.steps = 25  # of DDIM; guidance_scale is that of `sample`
    c.evaluation.reference = ""  # real images, for metrics that compare; "" is the holdout split of the data
    c.evaluation.weights = ()  # NAME=PATH of networks

    c.sample = ConfigDict(dict(DEFAULTS))  # the options of `sample`, explained in sampling_params.py

    c.mesh = ConfigDict()  # devices along each axis; at most one may be -1, "all that remain"
    c.mesh.data = -1
    c.mesh.fsdp = 1
    c.mesh.tensor = 1
    c.mesh.expert = 1
    return c


def latent_size(config: ConfigDict) -> int:
    """Height and width of the latents: `model.image_size` over the autoencoder's down-sampling."""
    return config.model.image_size // downsampling(config)


def downsampling(config: ConfigDict) -> int:
    """Pixels along a side of what becomes one position of the latents."""
    autoencoder = config.model.autoencoder
    return autoencoder.patch_size * 2 ** (len(autoencoder.channels) - 1)


def parse_argument(argument: str | None, variants: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    """Cuts what follows the colon in `--config=configs/x.py:experts,smoke` into its phase and its variants.

    Raises ValueError with the valid words.
    """
    words = [OLD_PHASES.get(word, word) for word in (argument or "").split(",") if word]
    known = [*PHASES, *variants]
    for word in words:
        if word not in known:
            raise ValueError(f"--config argument {word!r} is not one of {', '.join(known)}")
    phases = [word for word in words if word in PHASES]
    if len(phases) > 1:
        raise ValueError(f"--config names {len(phases)} phases ({', '.join(phases)}); give one")
    return (phases[0] if phases else None), [word for word in words if word not in PHASES]


def as_json(config: ConfigDict) -> dict[str, Any]:
    """The values of a config as JSON knows them; tuples are lists."""
    return json.loads(config.to_json_best_effort())


def flat(values: Mapping[str, Any] | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """{"data.path": ...} of nested values: one entry for each that is not a non-empty mapping itself."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, (Mapping, ConfigDict)) and len(value):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def within(field: str, section: str) -> bool:
    """Whether "optimizer.b2" is in the section "optimizer", or is that field itself."""
    return f"{field}.".startswith(f"{section}.")


def fields(config: ConfigDict, sections: Iterable[str]) -> dict[str, Any]:
    """The fields in any of the sections, flat, with their values as JSON knows them."""
    sections = tuple(sections)
    values = flat(as_json(config))
    return {name: value for name, value in values.items() if any(within(name, section) for section in sections)}


def differing(
    before: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str] | None = None
) -> dict[str, list[Any]]:
    """Field -> [before, now], for the fields of `names` in which two flat configs differ; by default of all fields.

    A field that is on one side only is None on the other.
    """
    both = {name: [before.get(name), now.get(name)] for name in names or sorted(before.keys() | now.keys())}
    return {name: values for name, values in both.items() if values[0] != values[1]}


def plain(value: Any) -> Any:
    """A value of a config as JSON knows it: dictionaries with sorted keys, and lists."""
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def overlay(config: ConfigDict, values: Mapping[str, Any]) -> None:
    """Puts values that come from JSON over those of `config`, which must be unlocked; lists become tuples again."""
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(config.get(name), ConfigDict):
            overlay(config[name], value)
        else:
            config[name] = _from_json(value)


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(item) for item in value)
    return ConfigDict(value) if isinstance(value, dict) else value


def upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a config, as plain JSON, under current names; `values` may have those of version 0.1."""
    if "phases" not in values:
        old = {"autoencoder": "autoencoder", **OLD_PHASES}
        rest = {name: value for name, value in values.items() if name not in old and name != "target"}
        phases = {new: values[name] for name, new in old.items() if name in values}
        values = {**rest, "phase": OLD_PHASES.get(values["target"], values["target"]), "phases": phases}
    autoencoder = {"two_pass_norm": False, **values["model"]["autoencoder"]}
    values = {**values, "model": {**values["model"], "autoencoder": autoencoder}}
    section = values["phases"].get("autoencoder", {})
    if "kl_weight" in section and "crop_size" not in section:
        # The KL was a sum, the others means; and images were whole.
        size = values["model"]["image_size"]
        section = {**section, "kl_weight": 3 * size**2 * section["kl_weight"], "crop_size": max(256, size)}
        values = {**values, "phases": {**values["phases"], "autoencoder": section}}
    return values


def upgraded_override(path: str) -> str:
    """The path of a value in a config, under its current name: "stage1.steps" -> "phases.base.steps"."""
    head, dot, rest = path.partition(".")
    if head == "target" and not dot:
        return "phase"
    if head in ("autoencoder", *OLD_PHASES) and dot:
        return f"phases.{OLD_PHASES.get(head, head)}.{rest}"
    return path
