"""The config.json of a network of transformers, with that library's defaults and checks; no torch is needed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ernie_vilg_jax.errors import UserError, first_line
from ernie_vilg_jax.interop.bert import ACTIVATIONS
from ernie_vilg_jax.interop.safetensors_files import read_config
from ernie_vilg_jax.paths import local

T = TypeVar("T")


def parsed_config(folder: str | Path, model_types: Sequence[str], what: str) -> Any:
    """The config of a folder, as transformers' config object.

    Args:
      folder: must be a folder with a config.json.
      model_types: allowed values of its model_type.
      what: says in messages what was expected.
    """
    path = local(folder, "path")
    if not path.is_dir():
        raise UserError(f"{path} is {'a file' if path.exists() else 'missing'}: give {what}")
    if not (path / "config.json").is_file():
        raise UserError(f"{path} has no config.json: give {what}")
    config = read_config(path)
    if config.get("model_type") not in model_types:
        raise UserError(f"{path}: its config.json has model_type={config.get('model_type')!r}: give {what}")
    from transformers import CONFIG_MAPPING

    try:
        return CONFIG_MAPPING[config["model_type"]].from_dict(config)
    except Exception as error:  # huggingface_hub's own validation errors, TypeError, ValueError
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: its config.json is not that of a network: {reason}") from error


def activation(name: str, origin: str) -> str:
    """Our name of an activation of transformers."""
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise UserError(f"{origin}: its config.json has hidden_act={name!r}, but supported are only {known}")
    return ACTIVATIONS[name]


def to_module(build: Callable[[], T], origin: str) -> T:
    """`build()`; what Flax says of sizes that do not fit becomes a UserError."""
    try:
        return build()
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{origin}: the sizes in its config.json do not fit each other: {first_line(error)}") from error
