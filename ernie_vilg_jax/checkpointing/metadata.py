"""The metadata of a checkpoint: its config, phase and checksums, and whether they are those that were saved."""

from collections.abc import Mapping
from typing import Any

from absl import logging
from etils import epath
from ml_collections import ConfigDict

from ernie_vilg_jax import checksums
from ernie_vilg_jax.aliases import Tree
from ernie_vilg_jax.checkpointing.faults import reading
from ernie_vilg_jax.checkpointing.folders import described, item_names, remedy
from ernie_vilg_jax.config import OLD_PHASES, as_json, overlay, upgraded
from ernie_vilg_jax.data import files
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.version import __version__

FORMAT = 2
"""The format that is written. Format 1 (version 0.1) had other names in its metadata, and can still be read."""

_UNSEALED: set[str] = set()


def make_metadata(config: ConfigDict, **more: Any) -> dict[str, Any]:
    """Metadata of a checkpoint of `config`, as plain JSON."""
    return {"format": FORMAT, "version": __version__, "config": as_json(config), **more}


def read_metadata(path: epath.Path, item: str = "tokenizer") -> dict[str, Any]:
    """The metadata given to `save`. Raises UserError if it is not a checkpoint of ours, or lacks `item`."""
    if item not in (names := item_names(path)):
        raise UserError(
            f"checkpoint {path} lacks its {item}, it holds {', '.join(names) or 'nothing'}: it is incomplete, or a "
            "single part that `checkpoint import_*` wrote"
        )
    with reading(path):
        metadata: Any = described(path).get("custom_metadata")
    if not isinstance(metadata, dict) or "config" not in metadata:
        raise UserError(f"checkpoint {path} was not written by ernie_vilg_jax: it carries no config")
    if metadata.get("format") not in (1, FORMAT):
        writer = f", written by version {metadata['version']}" if "version" in metadata else ""
        raise UserError(
            f"checkpoint {path} has format {metadata.get('format')}{writer}, but ernie_vilg_jax {__version__} reads "
            f"only formats 1 and {FORMAT}: install the version that wrote it"
        )
    if (metadata["format"] == FORMAT and "digest" not in metadata) or not files.sealed(metadata):
        raise UserError(f"the metadata of checkpoint {path} are not what was saved; {remedy(path)}")
    if missing := sorted(set(metadata.get("checksums", ())) - set(item_names(path))):
        raise UserError(f"checkpoint {path} lacks {', '.join(missing)}: it is incomplete; {remedy(path)}")
    if path.name.isdigit() and metadata.get("step", int(path.name)) != int(path.name):
        raise UserError(f"checkpoint {path} is that of step {metadata['step']}: its folder was renamed; {remedy(path)}")
    phase = metadata.pop("target", None) or metadata["phase"]
    return {**metadata, "phase": OLD_PHASES.get(phase, phase), "config": upgraded(metadata["config"])}


def read_config(path: epath.Path, default: ConfigDict, item: str = "tokenizer") -> ConfigDict:
    """The config that a checkpoint was trained with, over `default` for fields that it lacks."""
    config = default.copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
        overlay(config, read_metadata(path, item)["config"])
    return config


def examples_seen(metadata: Mapping[str, Any], step: int, batch_size: int) -> int:
    """The number of examples a run has seen; for version 0.1, which does not store it, steps x the batch size."""
    return metadata.get("examples", step * batch_size)


def seal(items: dict[str, Tree], metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata with a checksum of each array of `items`, and one of itself."""
    return files.seal({**metadata, "checksums": checksums.of_items(items)})


def check_items(path: epath.Path, items: dict[str, Tree], metadata: dict[str, Any]) -> None:
    """Raises UserError naming an item whose arrays differ from those that were saved. Without checksums, warns once."""
    stated = metadata.get("checksums")
    if stated is None:
        if str(path) not in _UNSEALED:
            _UNSEALED.add(str(path))
            logging.warning("checkpoint %s has no checksums: damage to it would go unnoticed", path)
        return
    for name, tree in items.items():
        if wrong := checksums.differences(tree, stated.get(name, {})):
            raise UserError(
                f"{name} of checkpoint {path} is not what was saved: {len(wrong)} of its arrays differ from their "
                f"checksums ({', '.join(wrong[:2])}{', ...' if len(wrong) > 2 else ''}); {remedy(path)}"
            )
