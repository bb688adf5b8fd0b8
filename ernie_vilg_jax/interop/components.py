"""Single components that training can start from: an autoencoder, a text encoder, a U-Net.

Each is an item of a checkpoint. `checkpoint import_*` writes folders that hold one component (the text encoder with its
tokenizer); checkpoints of the phases `base` and `experts` provide their components, too.
"""

import shlex
from collections.abc import Mapping
from typing import Any

from absl import logging
from etils import epath
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing, compatibility, paths
from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.config import flat, within
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.errors import UserError

ITEMS = {"autoencoder": "autoencoder", "text_encoder": "text_encoder", "unet": checkpointing.expert_name(0)}
# Fields that decide a component's parameters and what they compute; not those that may change at any start.
FIELDS = {
    "autoencoder": ("model.autoencoder",),
    "text_encoder": ("model.text_encoder", "tokenizer.max_length"),
    "unet": ("model.unet", "model.autoencoder.latent_channels", "model.text_encoder.width"),
}
HOW = (*compatibility.HOW, ".dropout")


def write_component(
    output: epath.Path,
    component: str,
    params: Params,
    config: ConfigDict,
    tokenizer: Tokenizer | None = None,
    report: str = "",
) -> None:
    """Writes a checkpoint of one component in place of what is there, for --config.phases.base.COMPONENT_from=output.

    Args:
      params: {"params", "mean", "std"} of an autoencoder, else the component's parameters.
      config: a whole config whose FIELDS[component] are those of the parameters.
      tokenizer: of a text encoder.
      report: content of warm_start.txt beside it.
    """
    logging.info("writing %s", output)
    items = {ITEMS[component]: params if component == "autoencoder" else {"ema": params}}
    if tokenizer is not None:
        items["tokenizer"] = checkpointing.pack_tokenizer(tokenizer)
    with paths.replacing(output) as fresh:
        checkpointing.save_once(fresh, items, checkpointing.make_metadata(config, phase=f"imported {component}"))
        if report:
            (fresh / "warm_start.txt").write_text(report)


def free(output: epath.PathLike, source: epath.PathLike, overwrite: bool) -> epath.Path:
    """The folder `output`, to be written from `source`.

    Raises UserError if it is not empty, unless `overwrite` (then the caller removes its content first), and if that
    would remove `source`.
    """
    folder = paths.reach(output, "output")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder")
    if folder.exists() and not paths.is_empty(folder):
        if not overwrite:
            raise UserError(f"{folder} is not empty; name another folder, or give --overwrite")
        if paths.inside(source, folder):
            raise UserError(f"{source} lies in {folder}, which --overwrite would remove: name another folder")
    return folder


def flags(component: str, config: ConfigDict) -> str:
    """The flags that adapt any config to the component: --config.model.… for each of its fields."""
    return flags_of(values_of(component, config))


def values_of(component: str, config: ConfigDict) -> dict[str, Any]:
    """{"model.unet.base_channels": 512, …} of the fields that a component depends on."""
    return {
        name: value
        for field in FIELDS[component]
        for name, value in flat(config).items()
        if within(name, field) and not name.endswith(HOW)
    }


def flags_of(values: Mapping[str, Any]) -> str:
    """{"model.image_size": 64} as --config.model.image_size=64, quoted for a shell."""
    return " ".join(shlex.quote(f"--config.{name}={value}") for name, value in values.items())
