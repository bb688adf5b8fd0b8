"""Checkpoints: the one place that knows Orbax.

A checkpoint is a folder of items, each restorable alone:

    train          step and PRNG key
    autoencoder    {"params", "ema", "opt"} in its own training; {"params", "mean", "std"} once frozen
    text_encoder   {"ema"} and, where it is trained, "params" and "opt"
    expert_00 ...  {"ema", "params", "opt"} of each expert
    tokenizer      its files, as bytes

and metadata: the config, the phase, the fingerprint of the data and how many of its examples were seen. A checkpoint
for sampling is the same folder with only the "ema" of each expert and of the text encoder, in bf16.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from ernie_vilg_jax import paths
from ernie_vilg_jax.config import OLD_PHASES, default_config, flat, upgraded
from ernie_vilg_jax.data.tokenizers import Tokenizer, load_tokenizer
from ernie_vilg_jax.errors import UserError

FORMAT = 2
"""Of what is written. Format 1 (version 0.1) had other names in its metadata, and is read as well."""
# What must agree between a checkpoint and the config that goes on with it, by the checkpoint's phase.
AUTOENCODER = ("model.autoencoder", "model.image_size")
BASE = ("dtype", "model", "diffusion", "tokenizer.kind", "tokenizer.vocab_size", "tokenizer.max_length")
HOW = (".remat", ".scan_layers")  # how a model is computed: may change at every start
SAME = {"autoencoder": AUTOENCODER, "base": BASE, "experts": (*BASE, "experts.n", "experts.stages")}


def expert_name(stage: int) -> str:
    """Checkpoint item of the expert of `stage`."""
    return f"expert_{stage:02d}"


def phase_folder(workdir: epath.Path, phase: str) -> epath.Path:
    """The folder of a phase in a run's working directory; a run that version 0.1 began goes on in its folder."""
    for old, new in OLD_PHASES.items():
        if new == phase and (workdir / old).is_dir() and not (workdir / phase).is_dir():
            return workdir / old
    return workdir / phase


@contextlib.contextmanager
def reading(path: epath.Path) -> Iterator[None]:
    """Turns whatever Orbax raises on a damaged checkpoint into one sentence. A damaged one is never skipped over."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"checkpoint {path} cannot be read, it is damaged or incomplete ({reason}); "
            "restore it from a copy, or move its folder away to go on from the one before it"
        ) from error


class Checkpoints:
    """The numbered checkpoints of one run: saved asynchronously, the last `keep` of them kept."""

    def __init__(self, directory: epath.Path, keep: int) -> None:
        self.directory = epath.Path(paths.absolute(directory))
        self.directory.mkdir(parents=True, exist_ok=True)
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
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    def save(self, step: int, items: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Starts to save; waits first for the save before it."""
        self._checkpointer.wait()
        self._checkpointer.save_checkpointables_async(step, items, custom_metadata=metadata, overwrite=True)

    def path(self, step: int) -> epath.Path:
        return self.directory / str(step)

    def close(self) -> None:
        """Waits for the last save."""
        self._checkpointer.wait()
        self._checkpointer.close()


def save_once(path: epath.PathLike, items: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Writes one checkpoint folder, for sampling."""
    path = paths.reach(path, "output")
    ocp.save_checkpointables(paths.absolute(path), items, custom_metadata=metadata)
    # Orbax notes the folder it wrote to in here; whoever gets a copy need not know it.
    (path / "commit_success.txt").write_text("Checkpoint commit was successful.")


def find(path: epath.PathLike, flag: str = "checkpoint") -> epath.Path:
    """The checkpoint that a person means by `path`: itself, or the newest of a run (experts before base).

    `flag` is what `path` was given as, for messages.
    """
    given = paths.reach(path, flag)
    if not given.is_dir():
        raise UserError(f"--{flag}={given}: there is no such folder")
    for place in (given, phase_folder(given, "experts"), phase_folder(given, "base")):
        for candidate in (place, place / "checkpoints"):
            if (candidate / "_CHECKPOINT_METADATA").is_file():
                return candidate
            steps = sorted((int(child.name), child) for child in candidate.glob("*") if child.name.isdigit())
            if steps:
                return steps[-1][1]
    raise UserError(f"--{flag}={given}: this folder holds no checkpoint (expected one from `train` or `checkpoint`)")


def read_metadata(path: epath.Path, item: str = "tokenizer") -> dict[str, Any]:
    """What `save` was given as metadata. Raises UserError if it is not one of ours, or lacks `item`."""
    if item not in (names := item_names(path)):
        raise UserError(
            f"checkpoint {path} lacks its {item}, it holds {', '.join(names) or 'nothing'}: it is incomplete, or a "
            "single part that `checkpoint import_*` wrote"
        )
    with reading(path):
        metadata: Any = ocp.metadata(paths.absolute(path), checkpointable_name=item).custom_metadata
    if not isinstance(metadata, dict) or "config" not in metadata:
        raise UserError(f"checkpoint {path} was not written by ernie_vilg_jax: it carries no config")
    if metadata.get("format") not in (1, FORMAT):
        raise UserError(f"checkpoint {path} has format {metadata.get('format')}, this version reads 1 and {FORMAT}")
    phase = metadata.pop("target", None) or metadata["phase"]
    return {**metadata, "phase": OLD_PHASES.get(phase, phase), "config": upgraded(metadata["config"])}


def item_names(path: epath.Path) -> list[str]:
    """Names of the items in the checkpoint."""
    return sorted(folder.name for folder in path.iterdir() if folder.is_dir())


def read_items(path: epath.Path, abstract: dict[str, Any]) -> dict[str, Any]:
    """Restores items; `abstract` maps their names to trees of ShapeDtypeStruct (with sharding).

    A tree may leave out some of an item: those are not read.
    """
    missing = set(abstract) - set(item_names(path))
    if missing:
        raise UserError(f"checkpoint {path} lacks {', '.join(sorted(missing))}; it holds {', '.join(item_names(path))}")
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    with reading(path), context:
        return ocp.load_checkpointables(paths.absolute(path), abstract)


def pack_tokenizer(tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """The tokenizer's files as arrays of bytes, by file name."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): np.frombuffer(path.read_bytes(), np.uint8) for path in files}


def read_tokenizer(path: epath.Path) -> Tokenizer:
    """The tokenizer inside a checkpoint."""
    with reading(path):
        files = ocp.load(paths.absolute(path), checkpointable_name="tokenizer")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            file = Path(folder) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(np.asarray(content).tobytes())
        return load_tokenizer(folder)


def make_metadata(config: ConfigDict, **more: Any) -> dict[str, Any]:
    """Metadata of a checkpoint of `config`, as plain JSON."""
    return {"format": FORMAT, "config": json.loads(config.to_json_best_effort()), **more}


def read_config(path: epath.Path, default: ConfigDict, item: str = "tokenizer") -> ConfigDict:
    """The config that a checkpoint was trained with, over `default` for fields it did not know."""
    config = default.copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
        _overlay(config, read_metadata(path, item)["config"])
    return config


def _overlay(config: ConfigDict, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(config.get(name), ConfigDict):
            _overlay(config[name], value)
        else:
            config[name] = _from_json(value)


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(item) for item in value)
    return ConfigDict(value) if isinstance(value, dict) else value


def check_same(path: epath.Path, config: ConfigDict, phase: str) -> None:
    """Raises UserError naming the fields in which a checkpoint of `phase` differs from `config` and must not.

    A field that is younger than the checkpoint had its default then.
    """
    before, wanted = (
        flat(json.loads(one.to_json_best_effort())) for one in (read_config(path, default_config()), config)
    )
    different = [
        f"{name} ({before.get(name)!r} in the checkpoint, {value!r} now)"
        for field in SAME[phase]
        for name, value in wanted.items()
        if f"{name}.".startswith(f"{field}.") and not name.endswith(HOW) and before.get(name) != value
    ]
    if different:
        raise UserError(
            f"checkpoint {path} is of another config: {'; '.join(different)}; use its config, or a new --workdir"
        )
