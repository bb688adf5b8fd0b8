"""Folders of runs and checkpoints: which checkpoints there are, and what a path means."""

import json
import re
from typing import Any

from etils import epath

from ernie_vilg_jax import hub, paths
from ernie_vilg_jax.config import OLD_PHASES
from ernie_vilg_jax.errors import UserError

BEST = "best"
"""Name after a run's folder that means its best checkpoint."""
BEST_NOTE = "best.json"


def expert_name(stage: int) -> str:
    """Checkpoint item of the expert of `stage`."""
    return f"expert_{stage:02d}"


def phase_folder(workdir: epath.Path, phase: str) -> epath.Path:
    """The folder of a phase in a run's working directory; a run that version 0.1 began continues in its folder."""
    for old, new in OLD_PHASES.items():
        if new == phase and (workdir / old).is_dir() and not (workdir / phase).is_dir():
            return workdir / old
    return workdir / phase


def steps(directory: epath.Path) -> list[int]:
    """Steps of the checkpoints in a folder `checkpoints`, ascending, without incomplete ones of killed saves.

    Raises UserError if a folder of another name holds the newest: the one before it would be mistaken for it.
    """
    if not directory.is_dir():
        return []
    folders = [child for child in directory.iterdir() if child.is_dir() and ".orbax-checkpoint-tmp" not in child.name]
    named = [child for child in folders if re.fullmatch("0|[1-9][0-9]*", child.name)]
    # Object stores cannot rename a complete folder.
    whole = [child for child in named if not paths.is_url(directory) or (child / "commit_success.txt").exists()]
    numbers = sorted(int(child.name) for child in whole)
    for child in folders:
        if child not in named and (step := _step_inside(child)) > max(numbers, default=-1):
            raise UserError(f"{child} holds the checkpoint of step {step}: rename it to {step}, or move it away")
    return numbers


def _step_inside(folder: epath.Path) -> int:
    """The step of the checkpoint in a folder, -1 if there is none."""
    try:
        step = described(folder)["custom_metadata"]["step"]
    except (OSError, ValueError, LookupError, TypeError):
        return -1
    return step if isinstance(step, int) else -1


def find(path: epath.PathLike, flag: str = "checkpoint") -> epath.Path:
    """The checkpoint of a given `path`: itself, or the newest of a run (experts before base).

    With `/best` after a run's folder, or a phase's, it is the one that was best by `config.train.keep_best`.
    hf://OWNER/NAME is downloaded first. `flag` is the name of the flag or argument of `path`, for messages.
    """
    given = paths.reach(hub.fetch(str(path), flag) if hub.named(path) else path, flag)
    if given.name == BEST and not given.is_dir():
        return _best(given.parent, given, flag)
    if not given.is_dir():
        raise UserError(f"--{flag}={given}: there is no such folder")
    for place in _places(given):
        for candidate in (place, place / "checkpoints"):
            if (candidate / "_CHECKPOINT_METADATA").is_file():
                return candidate
            if found := steps(candidate):
                return candidate / str(found[-1])
    if steps(phase_folder(given, "autoencoder") / "checkpoints"):
        raise UserError(f"--{flag}={given}: this run has an autoencoder alone: `train` its base first")
    raise UserError(f"--{flag}={given}: this folder holds no checkpoint (expected one from `train` or `checkpoint`)")


def _places(run: epath.Path) -> tuple[epath.Path, ...]:
    return run, phase_folder(run, "experts"), phase_folder(run, "base")


def _best(run: epath.Path, given: epath.Path, flag: str) -> epath.Path:
    for place in _places(run):
        for candidate in (place, place / "checkpoints"):
            note = best_note(candidate)
            if note and note["step"] in steps(candidate):
                return candidate / str(note["step"])
    raise UserError(
        f"--{flag}={given}: no best checkpoint is noted there; train with --config.train.keep_best=loss, or leave out "
        "/best"
    )


def best_note(directory: epath.Path) -> dict[str, Any] | None:
    """The note on the best checkpoint in a folder of checkpoints; None if there is none, or a damaged one."""
    try:
        note = json.loads((directory / BEST_NOTE).read_text())
        return {"step": int(note["step"]), "metric": str(note["metric"]), "value": float(note["value"])}
    except (OSError, ValueError, LookupError, TypeError):
        return None


def item_names(path: epath.Path) -> list[str]:
    """Names of the items in the checkpoint."""
    return sorted(folder.name for folder in path.iterdir() if folder.is_dir())


def described(path: epath.Path) -> dict[str, Any]:
    """Orbax's description of the whole checkpoint: our metadata, and how each item was written."""
    return json.loads((path / "_CHECKPOINT_METADATA").read_text())


def remedy(path: epath.Path) -> str:
    """The remedy for a damaged checkpoint."""
    older = [step for step in steps(path.parent) if step < int(path.name)] if path.name.isdigit() else []
    if not older:
        return "restore it from a copy"
    return (
        f"restore it from a copy, or use the one before it, {path.parent / str(older[-1])} (`train` goes back to it "
        f"with --resume_from={older[-1]})"
    )
