"""Checkpoints: the only module that uses Orbax.

A checkpoint is a folder of items, each restorable alone:

    train          step and PRNG key
    autoencoder    {"params", "ema", "opt"} in its own training; {"params", "mean", "std"} once frozen
    text_encoder   {"ema"} and, if it is trained, "params" and "opt"
    expert_00 ...  {"ema", "params", "opt"} of each expert
    tokenizer      its files, as bytes

and metadata: the config, the phase, the fingerprint of the data and the number of examples seen, a checksum of each
array (`checksums.py`) and one of the metadata itself. They are compared when a checkpoint is read. A checkpoint for
sampling is the same folder with only the "ema" of each expert and of the text encoder, in bf16.
"""

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from ernie_vilg_jax import checksums, paths
from ernie_vilg_jax.aliases import Tree
from ernie_vilg_jax.config import OLD_PHASES, overlay, upgraded
from ernie_vilg_jax.data import files
from ernie_vilg_jax.data.tokenizers import FILES as TOKENIZER_FILES
from ernie_vilg_jax.data.tokenizers import Tokenizer, load_tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.version import __version__

FORMAT = 2
"""The format that is written. Format 1 (version 0.1) had other names in its metadata, and can still be read."""
_UNSEALED: set[str] = set()


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
        step = _described(folder)["custom_metadata"]["step"]
    except (OSError, ValueError, LookupError, TypeError):
        return -1
    return step if isinstance(step, int) else -1


def remedy(path: epath.Path) -> str:
    """The remedy for a damaged checkpoint."""
    older = [step for step in steps(path.parent) if step < int(path.name)] if path.name.isdigit() else []
    if not older:
        return "restore it from a copy"
    return (
        f"restore it from a copy, or use the one before it, {path.parent / str(older[-1])} (`train` goes back to it "
        f"with --resume_from={older[-1]})"
    )


def reason_of(error: BaseException) -> str:
    """The first line of the root cause, without the names of classes."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [re.sub(r"<class '([\w.]*\.)?(\w+)'>", r"\2", line).strip() for line in str(error).splitlines()]
    text = next((line for line in lines if line), type(error).__name__)
    no_space = re.search(
        r"No space left on device|Disk quota exceeded|Read-only file system|Permission denied", str(error)
    )
    return no_space[0] if no_space else text[:200]


@contextlib.contextmanager
def reading(path: epath.Path) -> Iterator[None]:
    """Turns any error of Orbax on reading a checkpoint into one sentence. A damaged one is never skipped."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except PermissionError as error:
        raise UserError(
            f"checkpoint {path} cannot be read: {error.strerror}; give this user the right to it"
        ) from error
    except Exception as error:  # of any type: Orbax, tensorstore or a JSON parser may raise
        raise UserError(
            f"checkpoint {path} cannot be read ({reason_of(error)}): it is damaged or incomplete; {remedy(path)}"
        ) from error


@contextlib.contextmanager
def writing(path: epath.Path, more: str = "") -> Iterator[None]:
    """Turns any error of Orbax on writing into one sentence."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # of any type, from the threads of Orbax and tensorstore
        raise UserError(
            f"checkpoint {path} could not be written ({reason_of(error)}){more}: free space, or give this user the "
            "right to write there, then run the same command again"
        ) from error


class Checkpoints:
    """The numbered checkpoints of one run: saved asynchronously, the last `keep` of them kept."""

    def __init__(self, directory: epath.Path, keep: int) -> None:
        self.directory = epath.Path(paths.absolute(directory))
        self.directory.mkdir(parents=True, exist_ok=True)
        self._saving: int | None = None
        policies: Any = ocp.training
        self._checkpointer = ocp.training.Checkpointer(
            str(self.directory),
            save_decision_policy=policies.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=policies.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    @property
    def latest(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return max(steps(self.directory), default=None)

    def save(self, step: int, items: dict[str, Tree], metadata: dict[str, Any]) -> None:
        """Starts to save, after waiting for the previous save."""
        self.wait()
        sealed = seal(items, {**metadata, "step": step})
        self._saving = step
        with self._writing():
            self._checkpointer.save_checkpointables_async(step, items, custom_metadata=sealed, overwrite=True)

    def path(self, step: int) -> epath.Path:
        return self.directory / str(step)

    def wait(self) -> None:
        """Waits for the save in progress. Raises UserError if it could not be written."""
        with self._writing():
            self._checkpointer.wait()

    def close(self) -> None:
        """Waits for the last save."""
        try:
            self.wait()
        finally:
            self._checkpointer.close()

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        newest = "there is no earlier one" if self.latest is None else f"that of step {self.latest} is complete"
        return writing(self.directory / str(self._saving), f"; {newest}")


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


def save_once(path: epath.PathLike, items: dict[str, Tree], metadata: dict[str, Any]) -> None:
    """Writes one checkpoint folder, for sampling."""
    path = paths.reach(path, "output")
    with writing(path):
        ocp.save_checkpointables(paths.absolute(path), items, custom_metadata=seal(items, metadata))
    # Orbax writes the path of the folder into this file; copies should not carry it.
    (path / "commit_success.txt").write_text("Checkpoint commit was successful.")


def join(path: epath.Path, parts: Mapping[str, tuple[epath.Path, str]], metadata: dict[str, Any]) -> None:
    """Writes a checkpoint from items of other checkpoints: name -> (checkpoint, its name there).

    Items are folders and are copied file by file: no bit changes, and none is in memory. Their checksums are copied; if
    a checkpoint has none (version 0.1), they are computed now.
    """
    sums, handlers, described = {}, {}, {}
    for name, (source, item) in parts.items():
        stated = read_metadata(source, item).get("checksums", {}).get(item)
        sums[name] = stated or checksums.of_items({item: read_whole(source, item)})[item]
        with reading(source):
            described = _described(source)
            handlers[name] = described["item_handlers"][item]
    described |= {"item_handlers": handlers, "custom_metadata": files.seal({**metadata, "checksums": sums})}
    with writing(path):
        for name, (source, item) in parts.items():
            for folder, _, names in (source / item).walk():
                target = path / name / folder.relative_to(source / item)
                target.mkdir(parents=True, exist_ok=True)
                for file in names:
                    (folder / file).copy(target / file, overwrite=True)
        (path / "_CHECKPOINT_METADATA").write_text(json.dumps(described))
        (path / "orbax.checkpoint").write_text("")
        (path / "commit_success.txt").write_text("Checkpoint commit was successful.")


def find(path: epath.PathLike, flag: str = "checkpoint") -> epath.Path:
    """The checkpoint of a given `path`: itself, or the newest of a run (experts before base).

    `flag` is the name of the flag or argument of `path`, for messages.
    """
    given = paths.reach(path, flag)
    if not given.is_dir():
        raise UserError(f"--{flag}={given}: there is no such folder")
    for place in (given, phase_folder(given, "experts"), phase_folder(given, "base")):
        for candidate in (place, place / "checkpoints"):
            if (candidate / "_CHECKPOINT_METADATA").is_file():
                return candidate
            if found := steps(candidate):
                return candidate / str(found[-1])
    raise UserError(f"--{flag}={given}: this folder holds no checkpoint (expected one from `train` or `checkpoint`)")


def read_metadata(path: epath.Path, item: str = "tokenizer") -> dict[str, Any]:
    """The metadata given to `save`. Raises UserError if it is not a checkpoint of ours, or lacks `item`."""
    if item not in (names := item_names(path)):
        raise UserError(
            f"checkpoint {path} lacks its {item}, it holds {', '.join(names) or 'nothing'}: it is incomplete, or a "
            "single part that `checkpoint import_*` wrote"
        )
    with reading(path):
        metadata: Any = _described(path).get("custom_metadata")
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


def examples_seen(metadata: Mapping[str, Any], step: int, batch_size: int) -> int:
    """The number of examples a run has seen; for version 0.1, which does not store it, steps x the batch size."""
    return metadata.get("examples", step * batch_size)


def _described(path: epath.Path) -> dict[str, Any]:
    """Orbax's description of the whole checkpoint: our metadata, and how each item was written."""
    return json.loads((path / "_CHECKPOINT_METADATA").read_text())


def item_names(path: epath.Path) -> list[str]:
    """Names of the items in the checkpoint."""
    return sorted(folder.name for folder in path.iterdir() if folder.is_dir())


def read_items(path: epath.Path, abstract: dict[str, Tree]) -> dict[str, Tree]:
    """Restores items; `abstract` maps their names to trees of ShapeDtypeStruct (with sharding).

    A tree may leave out parts of an item: those are not read.
    """
    missing = set(abstract) - set(item_names(path))
    if missing:
        raise UserError(f"checkpoint {path} lacks {', '.join(sorted(missing))}; it holds {', '.join(item_names(path))}")
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    metadata = read_metadata(path, next(iter(abstract)))
    with reading(path), context:
        items = ocp.load_checkpointables(paths.absolute(path), abstract)
        check_items(path, items, metadata)
    return items


def read_whole(path: epath.Path, item: str) -> Tree:
    """A whole item, as numpy arrays; its named tuples and lists come back as dictionaries and lists."""
    with reading(path):
        shapes: Any = ocp.metadata(paths.absolute(path), checkpointable_name=item).metadata
    blank = jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), shapes)
    return read_items(path, {item: blank})[item]


def pack_tokenizer(tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """The tokenizer's files as arrays of bytes, by file name."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        saved = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): np.frombuffer(path.read_bytes(), np.uint8) for path in saved}


def same_tokenizer(a: Tokenizer, b: Tokenizer) -> bool:
    """Whether both tokenise every text equally: whether their files are the same."""
    first, second = pack_tokenizer(a), pack_tokenizer(b)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def read_tokenizer(path: epath.Path) -> Tokenizer:
    """The tokenizer inside a checkpoint. Its files have fixed names: others are refused before anything is written."""
    metadata = read_metadata(path, "tokenizer")
    with reading(path):
        saved = ocp.load(paths.absolute(path), checkpointable_name="tokenizer")
    if not isinstance(saved, dict) or not saved or not set(saved) <= set(TOKENIZER_FILES):
        names = ", ".join(map(repr, saved)) if isinstance(saved, dict) else type(saved).__name__
        raise UserError(
            f"the tokenizer in checkpoint {path} holds {names[:200] or 'nothing'}, where only "
            f"{', '.join(TOKENIZER_FILES)} can be: do not trust this checkpoint, get it again from its origin"
        )
    check_items(path, {"tokenizer": saved}, metadata)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in saved.items():
            (Path(folder) / name).write_bytes(np.asarray(content).tobytes())
        with reading(path):
            return load_tokenizer(folder)


def make_metadata(config: ConfigDict, **more: Any) -> dict[str, Any]:
    """Metadata of a checkpoint of `config`, as plain JSON."""
    return {"format": FORMAT, "version": __version__, "config": json.loads(config.to_json_best_effort()), **more}


def read_config(path: epath.Path, default: ConfigDict, item: str = "tokenizer") -> ConfigDict:
    """The config that a checkpoint was trained with, over `default` for fields that it lacks."""
    config = default.copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
        overlay(config, read_metadata(path, item)["config"])
    return config
