"""Resuming a run: finds its checkpoint, and checks that the settings that affect later steps have not changed."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import logging
from etils import epath
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing, compatibility
from ernie_vilg_jax.config import default_config, differing, fields, within
from ernie_vilg_jax.data.records import read_manifest
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import bank
from ernie_vilg_jax.sharding import processes

# Fields that affect later steps, beside those that a checkpoint and its config must agree on (`compatibility.SAME`).
DECIDES = ("seed", *compatibility.TRAINING, "experts.train_text_encoder", "lora")
# Fields of a phase's section that may change: its number of steps and its start do not affect how it continues.
FREE = ("steps", "init_from", "autoencoder_from", "text_encoder_from", "unet_from")
CONTENT = ("data", "tokenizer")
"""Compared by content: the fingerprint of the data, the files of the tokenizer."""


class Start(NamedTuple):
    """The point at which a run resumes."""

    path: epath.Path
    """The checkpoint."""
    step: int
    changes: tuple[dict[str, Any], ...]
    """Changes that were allowed, at this step and at earlier ones: {"step": n, "fields": {field: [before, now]}}."""


def find_start(
    directory: epath.Path,
    config: ConfigDict,
    tokenizer: Tokenizer,
    resume_from: int | None = None,
    allow_changes: Sequence[str] = (),
) -> Start | None:
    """The checkpoint that a run resumes from, or None if there is none.

    Args:
      directory: the folder `checkpoints` of a phase.
      resume_from: the step to go back to, with the checkpoints after it set aside; None is the newest.
      allow_changes: fields that may differ from those of the checkpoint (`check`).
    """
    step = chosen_step(directory, resume_from)
    if step is None:
        return None
    if resume_from is not None:
        _set_aside_after(directory, step)
    path = directory / str(step)
    changed = check(path, config, tokenizer, allow_changes)
    before = checkpointing.read_metadata(path).get("changes", [])
    return Start(path, step, (*before, *([{"step": step, "fields": changed}] if changed else [])))


def chosen_step(directory: epath.Path, resume_from: int | None) -> int | None:
    """The step that a run resumes from. Raises UserError if there is no checkpoint of `resume_from`."""
    found = checkpointing.steps(directory)
    if resume_from is None:
        return found[-1] if found else None
    if resume_from not in found:
        known = ", ".join(map(str, found)) or "none"
        raise UserError(f"--resume_from={resume_from}: {directory} has no checkpoint of that step; there are {known}")
    return resume_from


def _set_aside_after(directory: epath.Path, last: int) -> None:
    for step in (step for step in checkpointing.steps(directory) if step > last):
        if processes.index() == 0:
            aside = directory.parent / "set_aside"
            aside.mkdir(parents=True, exist_ok=True)
            place = next(place for k in itertools.count() if not (place := aside / f"{step}.{k}").exists())
            (directory / str(step)).rename(place)
            logging.warning("checkpoint %s is set aside as %s", directory / str(step), place)
    processes.wait_for_all("set_aside")


def check(path: epath.Path, config: ConfigDict, tokenizer: Tokenizer, allowed: Sequence[str]) -> dict[str, Any]:
    """Settings of the run that change from here on: field -> [before, now], all of them in `allowed`.

    Args:
      path: the checkpoint to resume from.
      tokenizer: the tokenizer of the data.
      allowed: fields, or sections of fields, that may differ.

    Raises UserError with the fields that differ without being allowed, and those that must never differ.
    """
    compatibility.check_same(path, config, config.phase)
    bank.check_trained(path, config)
    metadata = checkpointing.read_metadata(path)
    before, now = (_deciding(one) for one in (checkpointing.read_config(path, default_config()), config))
    before["data"], now["data"] = metadata["data"], read_manifest(config.data.path)["fingerprint"]
    before["tokenizer"], now["tokenizer"] = "as saved", "as saved"
    if not checkpointing.same_tokenizer(checkpointing.read_tokenizer(path), tokenizer):
        now["tokenizer"] = "another"
    if unknown := [name for name in allowed if not any(within(field, name) for field in now)]:
        sections = ", ".join(dict.fromkeys(".".join(field.split(".")[:2]) for field in now))
        raise UserError(f"--allow_changes={unknown[0]} names nothing that is compared; there are {sections}")
    # If knowledge is off on one side, its other fields are not compared.
    both = [field for field in now if field in before]
    if path.name == "0":  # written by `checkpoint branch`: nothing was trained yet, so only the state must match
        both = [field for field in both if field == "tokenizer" or within(field, "optimizer")]
    changed = differing(before, now, both)
    refused = [field for field in changed if not any(within(field, name) for name in allowed)]
    if refused:
        told = "; ".join(_told(field, *changed[field]) for field in refused)
        raise UserError(
            f"checkpoint {path} was trained with other settings: {told}. Use those, or another --workdir, or go on "
            f"with --allow_changes={','.join([*allowed, *refused])}"
        )
    for field, values in changed.items():
        logging.warning("from step %s on: %s", path.name, _told(field, *values))
    return changed


def _deciding(config: ConfigDict) -> dict[str, Any]:
    """The fields that are compared, flat, as JSON."""
    section = f"phases.{config.phase}"
    values = fields(config, (*DECIDES, section))
    free = {f"{section}.{name}" for name in FREE}
    if not values["knowledge.enabled"]:
        free |= {name for name in values if name.startswith("knowledge.") and name != "knowledge.enabled"}
    return {name: value for name, value in values.items() if name not in free}


def _told(field: str, before: Any, now: Any) -> str:
    if field == "data":
        return "data (other records than it was trained on)"
    if field == "tokenizer":
        return "tokenizer (another vocabulary, so that the same words have other numbers)"
    return f"{field} ({before!r} in the checkpoint, {now!r} now)"
