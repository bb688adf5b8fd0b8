"""Data that `encode` made, and the autoencoder that made them."""

from collections.abc import Mapping
from typing import Any

from absl import logging
from etils import epath
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing, checksums
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.data.manifests import read_manifest
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import components


def is_encoded(config: ConfigDict) -> bool:
    """Whether the data of a config hold latents."""
    return "encoding" in read_manifest(config.data.path)


def find_autoencoder(given: epath.PathLike, config: ConfigDict, flag: str) -> tuple[epath.Path, str]:
    """The checkpoint of a trained autoencoder, and the part of its item that encodes: "ema" while it was trained.

    `given` is a run, whose phase `autoencoder` is enough, a checkpoint, or an autoencoder that was imported.
    Raises UserError, naming `flag`, if there is none, or one of other sizes than the config.
    """
    try:
        path = checkpointing.find(given, flag)
    except UserError:
        folder = checkpointing.phase_folder(epath.Path(given).expanduser(), "autoencoder")
        if not checkpointing.steps(folder / "checkpoints"):
            raise
        path = checkpointing.find(folder, flag)
    theirs = components.values_of("autoencoder", checkpointing.read_config(path, default_config(), "autoencoder"))
    ours = components.values_of("autoencoder", config)
    if different := {name: value for name, value in theirs.items() if ours.get(name) != value}:
        raise UserError(f"--{flag}={given} is of other sizes than the config; give {components.flags_of(different)}")
    part, trained = part_of(path), config.phases.autoencoder.steps
    if part == "ema" and int(path.name) < trained:
        logging.warning("the autoencoder of %s stands at step %s of %d", path, path.name, trained)
    return path, part


def part_of(path: epath.Path) -> str:
    """The part of a checkpoint's item `autoencoder` that is used: its average, or the frozen parameters."""
    return "ema" if checkpointing.read_metadata(path, "autoencoder")["phase"] == "autoencoder" else "params"


def autoencoder_digest(path: epath.Path) -> str:
    """A digest of the parameters in a checkpoint, the same wherever they were copied; reads no arrays.

    Except from a checkpoint of version 0.1, which has no checksums.
    """
    stated: Mapping[str, str] = (
        checkpointing.read_metadata(path, "autoencoder").get("checksums", {}).get("autoencoder", {})
    )
    if not stated:
        stated = checksums.of_items({"": checkpointing.read_whole(path, "autoencoder")})[""]
    head = f"{part_of(path)}/"
    # The sum of the exact values: the same for values in bf16 that were stored as float32.
    sums = {name.removeprefix(head): text.split(":")[1] for name, text in stated.items() if name.startswith(head)}
    return digest(sums)


def check_autoencoder(config: ConfigDict, path: epath.Path) -> None:
    """Raises UserError if the data hold latents of another autoencoder than that of the checkpoint `path`."""
    encoding: Mapping[str, Any] | None = read_manifest(config.data.path).get("encoding")
    if encoding is not None and encoding["autoencoder"] != autoencoder_digest(path):
        raise UserError(
            f"{config.data.path} holds latents of another autoencoder than that of {path}: encode the images again "
            f"with `python -m ernie_vilg_jax.encode --checkpoint={path}`, or begin with the autoencoder that made them"
        )
