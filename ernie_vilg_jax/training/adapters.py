"""Adapters in training: those of `config.lora`, and the averages of a state with or without them."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax
from ml_collections import ConfigDict

from ernie_vilg_jax import checks
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.model import Params
from ernie_vilg_jax.models import lora
from ernie_vilg_jax.training.task import State


@dataclasses.dataclass(frozen=True)
class Adapters:
    """The adapters that `config.lora` describes.

    Attributes:
      scale: what they are multiplied by, alpha / rank.
      targets, text_targets: regexes of modules of the U-Net and of the text encoder.
    """

    rank: int
    scale: float
    targets: tuple[str, ...]
    text_targets: tuple[str, ...]

    @staticmethod
    def of(config: ConfigDict) -> Adapters | None:
        """None if `config.lora.rank` is 0. Raises UserError naming a field that is invalid."""
        settings = config.get("lora") or default_config().lora
        checks.whole(f"--config.lora.rank={settings.rank}", settings.rank, 0)
        if not settings.rank:
            return None
        if config.phase == "base" and not config.phases.base.init_from:
            raise UserError(
                "--config.lora.rank: adapters change a model that is there; name one with "
                "--config.phases.base.init_from"
            )
        for name in ("targets", "text_targets"):
            for target in settings[name]:
                try:
                    re.compile(target)
                except re.error as error:
                    raise UserError(
                        f"--config.lora.{name}: {target!r} is not a regular expression ({error})"
                    ) from error
        scale = float(settings.alpha or settings.rank) / settings.rank
        return Adapters(int(settings.rank), scale, tuple(settings.targets), tuple(settings.text_targets))

    def init(self, bank: Params, text: Params, unet_key: jax.Array, text_key: jax.Array) -> tuple[Params, Params]:
        """Fresh adapters of a bank of experts, with a leading axis, and of a text encoder."""
        n = jax.tree.leaves(bank)[0].shape[0]
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), bank)
        for params, name in ((one, "targets"), (text, "text_targets")):
            for target in getattr(self, name):
                if not lora.targeted(params, (target,)):
                    raise UserError(f"--config.lora.{name}: {target!r} is in the name of no module with a kernel")
        keys = jax.random.split(unet_key, n)
        experts = jax.vmap(lambda key: lora.init(key, one, self.targets, self.rank))(keys)
        return experts, lora.init(text_key, text, self.text_targets, self.rank)


def scale_of(config: ConfigDict) -> float:
    """The scale of the adapters of a config; 0 without."""
    adapters = Adapters.of(config)
    return 0.0 if adapters is None else adapters.scale


def expert_average(state: State, slot: Any, scale: float) -> Params:
    """The average of one expert of a diffusion task's state, with its adapters merged if it has them."""
    at = lambda tree: jax.tree.map(lambda leaf: leaf[slot], tree)  # noqa: E731
    expert = at(state["experts"]["ema"])
    return lora.merged(at(state["base"]["experts"]), expert, scale) if "base" in state else expert


def text_average(state: State, scale: float) -> Params:
    """The average of the text encoder, likewise."""
    text = state["text_encoder"]["ema"]
    return lora.merged(state["base"]["text_encoder"], text, scale) if "base" in state else text
