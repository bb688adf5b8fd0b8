"""Single parts of a model that stage 1 can begin from: an autoencoder, a text encoder, a U-Net.

Each is an item of a checkpoint. `checkpoint import_*` writes folders that hold one part (the text encoder with its
tokenizer); any other checkpoint of stage 1 or 2 gives its parts as well.
"""

import shlex
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.parallel import rules
from ernie_vilg_jax.system import System
from ernie_vilg_jax.training import checkpoints, folders
from ernie_vilg_jax.training.diffusion import expert_name

ITEMS = {"autoencoder": "autoencoder", "text_encoder": "text_encoder", "unet": expert_name(0)}
# The fields that decide a part's parameters and what they compute, without those that may change at every start.
FIELDS = {
    "autoencoder": ("model.autoencoder",),
    "text_encoder": ("model.text_encoder", "tokenizer.max_length"),
    "unet": ("model.unet", "model.autoencoder.latent_channels", "model.text_encoder.width"),
}
HOW = (*checkpoints.HOW, ".dropout")


def write_part(
    output: epath.Path, part: str, params: Any, config: ConfigDict, tokenizer: Tokenizer | None = None
) -> None:
    """Writes a checkpoint of one part, for `--config.stage1.PART_from=output`, in place of what is there.

    Args:
      params: {"params", "mean", "std"} of an autoencoder, else the part's parameters.
      config: a whole config whose FIELDS[part] are those of the parameters.
      tokenizer: of a text encoder.
    """
    logging.info("writing %s", output)
    if output.exists():
        output.rmtree()
    items = {ITEMS[part]: params if part == "autoencoder" else {"ema": params}}
    if tokenizer is not None:
        items["tokenizer"] = checkpoints.pack_tokenizer(tokenizer)
    checkpoints.save_once(output, items, checkpoints.make_metadata(config, target=f"imported {part}"))


def free(output: epath.PathLike, source: epath.PathLike, overwrite: bool) -> epath.Path:
    """The folder `output`, for what is made of `source`.

    Raises UserError where it holds anything, unless to `overwrite` (then whoever writes it removes that first), and
    where that would remove `source`.
    """
    folder = folders.reach(output, "output")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not overwrite or not folder.is_dir():
            raise UserError(f"{folder} is not empty; name another folder, or give --overwrite")
        inside = epath.Path(folders.absolute(source))
        if epath.Path(folders.absolute(folder)) in (inside, *inside.parents):
            raise UserError(f"{source} lies in {folder}, which --overwrite would remove: name another folder")
    return folder


def flags(part: str, config: ConfigDict) -> str:
    """The flags that make any config fit the part: --config.model.… for each of its fields."""
    return flags_of(_values(part, config))


def read_parts(config: ConfigDict, system: System, tokenizer: Tokenizer, mesh: Mesh) -> dict[str, Any]:
    """The parts that config.stage1.*_from name, on the mesh: what `DiffusionTask` takes as its start."""
    chosen = _chosen(config)
    return {part: _read(part, path, config, system, tokenizer, mesh) for part, path in chosen.items()}


def check_alone(config: ConfigDict) -> None:
    """Raises UserError where config.stage1.init_from, which brings all parts, has another beside it."""
    for part in _chosen(config):
        raise UserError(
            f"--config.stage1.init_from brings all parts, so it does not go with --config.stage1.{part}_from: "
            "give one of the two"
        )


def _chosen(config: ConfigDict) -> dict[str, str]:
    return {part: path for part in ITEMS if (path := config.stage1[f"{part}_from"])}


def _read(part: str, given: str, config: ConfigDict, system: System, tokenizer: Tokenizer, mesh: Mesh) -> Any:
    flag, item = f"config.stage1.{part}_from", ITEMS[part]
    path = checkpoints.find(given, flag)
    metadata = checkpoints.read_metadata(path, item)
    if part == "autoencoder" and metadata["target"] == "autoencoder":
        raise UserError(
            f"--{flag}={given} is an autoencoder's training, which has not measured the spread of its latents: "
            "name a run whose stage 1 has begun, or put it into this --workdir as autoencoder/"
        )
    theirs = _values(part, checkpoints.read_config(path, default_config(), item))
    ours = _values(part, config)
    different = {name: value for name, value in theirs.items() if ours.get(name) != value}
    if different:
        raise UserError(f"--{flag}={given} is of other sizes than the config; give {flags_of(different)}")
    if part == "text_encoder":
        _check_tokenizer(path, given, tokenizer)
    key = jax.random.key(0)
    abstract: Any = {
        "autoencoder": system.abstract_autoencoder,
        "text_encoder": lambda: {"ema": jax.eval_shape(system.init_text_encoder, key)},
        "unet": lambda: {"ema": jax.eval_shape(system.init_unet, key)},
    }[part]()
    tree = checkpoints.read_items(path, {item: rules.placed(abstract, rules.shardings(abstract, mesh))})[item]
    logging.info("%s begins as that of %s", part.replace("_", " "), path)
    return tree if part == "autoencoder" else tree["ema"]


def _check_tokenizer(path: epath.Path, given: str, tokenizer: Tokenizer) -> None:
    theirs, ours = (checkpoints.pack_tokenizer(one) for one in (checkpoints.read_tokenizer(path), tokenizer))
    if theirs.keys() != ours.keys() or any(not np.array_equal(theirs[name], ours[name]) for name in ours):
        raise UserError(
            f"--config.stage1.text_encoder_from={given} reads with another vocabulary than the data were prepared "
            "with; prepare them anew with --config.tokenizer.path=FOLDER, the folder that the text encoder came from"
        )


def _values(part: str, config: ConfigDict) -> dict[str, Any]:
    """{"model.unet.base_channels": 512, …} of the fields that a part depends on."""
    values: dict[str, Any] = {}
    for field in FIELDS[part]:
        value: Any = config
        for name in field.split("."):
            value = value[name]
        values |= (
            {f"{field}.{name}": value[name] for name in value} if isinstance(value, ConfigDict) else {field: value}
        )
    return {name: value for name, value in values.items() if not name.endswith(HOW)}


def flags_of(values: Mapping[str, Any]) -> str:
    """{"model.image_size": 64} as --config.model.image_size=64, quoted for a shell."""
    return " ".join(shlex.quote(f"--config.{name}={value}") for name, value in values.items())
