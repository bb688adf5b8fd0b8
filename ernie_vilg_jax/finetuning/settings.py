"""How a model is fine-tuned, and the config of the training that follows from it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from ml_collections import ConfigDict

from ernie_vilg_jax import checks
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.finetuning.origin import Origin

METHODS = ("lora", "full")
RATES = {"lora": 5e-3, "full": 2e-4}
EACH = 8
"""Images of a step for each expert, by default."""
EVERY = 120
"""Steps between evaluations, by default, at most."""
WHOLE = {"steps": (1, 10**9), "batch_size": (0, 2**16), "rank": (1, 2**16), "every": (0, 10**9), "seed": (0, 2**31 - 1)}
"""Least and most of the settings that are whole numbers."""
ONLY = {"lora": ("rank", "targets", "text_targets", "experts"), "full": ("text_encoder",)}
"""Settings that mean something to one method alone. A bank that is trained whole needs all of its experts."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The flags of `finetune`.

    Attributes:
      method: "lora" trains adapters, "full" all parameters.
      steps: at most; training ends earlier if nothing gets better.
      batch_size: images of a step, over all experts; 0 is `EACH` for each expert.
      learning_rate: 0 is that of the method in `RATES`.
      rank, targets, text_targets, experts: of adapters, as config.lora and config.experts.train have them.
      text_encoder: with "full", whether the text encoder of a bank of experts is trained; that of a base always is.
      old_share: share of a batch that is of what the model could do before; 0 is none.
      holdout: share of the concepts that is held out.
      every: steps between evaluations; 0 is `EVERY`, or a quarter of all if that is less.
      knowledge: whether key words and objects weigh more (docs/knowledge.md); None is as the model was trained.
    """

    method: str = "full"
    steps: int = 480
    batch_size: int = 0
    learning_rate: float = 0.0
    rank: int = 6
    targets: tuple[str, ...] = tuple(default_config().lora.targets)
    text_targets: tuple[str, ...] = tuple(default_config().lora.text_targets)
    experts: tuple[int, ...] = ()
    text_encoder: bool = True
    old_share: float = 0.5
    holdout: float = 0.1
    every: int = 0
    knowledge: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        checks.one_of(f"--method={self.method}", self.method, METHODS)
        for name, (least, most) in WHOLE.items():
            checks.whole(f"--{name}={getattr(self, name)}", getattr(self, name), least, most)
        if not 0 <= self.learning_rate < math.inf:
            raise UserError(f"--learning_rate={self.learning_rate} must be above 0, or 0 for that of the method")
        if not 0 <= self.old_share < 1:
            raise UserError(f"--old_share={self.old_share} is a share of each batch: give 0 to less than 1")
        if not 0 < self.holdout < 1:
            raise UserError(f"--holdout={self.holdout} is the share of your images to measure on, such as 0.1")
        if self.method == "lora" and not self.targets:
            raise UserError("--targets is empty: name modules of the U-Net that get adapters, such as --targets=attn")
        other = "full" if self.method == "lora" else "lora"
        for field in dataclasses.fields(self):
            if field.name in ONLY[other] and getattr(self, field.name) != field.default:
                raise UserError(f"--{field.name} is for --method={other}: leave it out, or add that")

    def uses_knowledge(self, origin: Origin) -> bool:
        return bool(origin.config.knowledge.enabled if self.knowledge is None else self.knowledge)

    def told(self) -> dict[str, Any]:
        """The settings that may not change when the same command goes on."""
        values = dataclasses.asdict(self)
        del values["steps"], values["every"]
        return values


def tuning_config(origin: Origin, settings: Settings, data: str, weights: dict[str, float]) -> ConfigDict:
    """The config of the training: the model's own, with the user's data and settings.

    Args:
      data: prepared (or annotated) data of it.
      weights: share of each source.
    """
    config = origin.config.copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
        config.seed = settings.seed
        config.phase = origin.phase
        config.knowledge.enabled = settings.uses_knowledge(origin)
        config.data.path, config.data.sources, config.data.weights = data, (), ConfigDict(weights)
        config.data.cache_latents, config.data.resident = config.data.crop == "center", False
        config.mesh = default_config().mesh  # the model may have been trained on other devices
        section = config.phases[origin.phase]
        experts = len(settings.experts) or (config.experts.n if origin.phase == "experts" else 1)
        section.init_from = str(origin.path)
        section.steps = settings.steps
        section.batch_size = settings.batch_size or EACH * experts * max(1, 4 // experts)
        section.learning_rate = settings.learning_rate or RATES[settings.method]
        section.warmup_steps, section.decay_steps = min(20, settings.steps), 0
        section.ema_decay, section.accumulation_steps = 0.99, 1
        config.experts.train = settings.experts
        config.experts.train_text_encoder = settings.text_encoder and settings.method == "full"
        config.optimizer.weight_decay = 0.0  # it would pull towards zero, not towards the model
        # Muon multiplies whole matrices, however few images a step has: at 32, three quarters of all that it computes.
        # And it is for whole matrices: it would make the factors of adapters orthogonal.
        if config.optimizer.name == "muon" or settings.method == "lora":
            config.optimizer.name = "adamw"
        if settings.method == "lora":
            config.lora.rank, config.lora.alpha = settings.rank, 0.0
            config.lora.targets, config.lora.text_targets = settings.targets, settings.text_targets
        every = settings.every or max(1, min(EVERY, settings.steps // 4))
        config.train.keep_best = "score"
        config.train.log_every = config.train.checkpoint_every = config.evaluation.every = every
        config.train.validate_every = config.train.preview_every = 0
        config.train.validation_samples = 1  # none are measured but those of the judge
        config.train.keep_checkpoints = 1
        config.evaluation.steps = 25
    return config
