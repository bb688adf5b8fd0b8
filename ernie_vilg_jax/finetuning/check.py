"""What a training would refuse, told before any work."""

from __future__ import annotations

from absl import logging

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.finetuning.messages import naming_flags
from ernie_vilg_jax.finetuning.origin import Origin
from ernie_vilg_jax.finetuning.settings import Settings, tuning_config
from ernie_vilg_jax.model import build_model
from ernie_vilg_jax.models import lora
from ernie_vilg_jax.sharding.mesh import make_mesh
from ernie_vilg_jax.training.diffusion import DiffusionTask
from ernie_vilg_jax.training.validation import Validation


@naming_flags()
def check_training(origin: Origin, settings: Settings) -> None:
    """Raises UserError, naming a flag, if the training of `settings` would be refused. From shapes alone."""
    if settings.experts and origin.phase == "base":
        raise UserError(f"--experts: --from={origin.given} is a base, which has one U-Net: leave --experts out")
    config = tuning_config(origin, settings, "", {})
    task = DiffusionTask(config, build_model(config), make_mesh(config.mesh), Validation(0, {}, {}))
    if settings.method == "full":
        return
    state = task.abstract
    frozen = lora.count(state["base"])
    adapters = lora.count([state["experts"]["ema"], state["text_encoder"]["ema"]])
    if adapters >= frozen:
        raise UserError(
            f"--rank={settings.rank}: adapters would have {adapters / 1e6:.1f}M parameters, more than the "
            f"{frozen / 1e6:.1f}M that they are added to: lower it, or train those with --method=full"
        )
    share = 100 * adapters / frozen
    logging.info("adapters of %.2fM parameters, %.1f%% of those that they are added to", adapters / 1e6, share)
