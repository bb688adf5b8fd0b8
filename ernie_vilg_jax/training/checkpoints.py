"""Checkpoints: the one place that knows Orbax.

A checkpoint is a folder of items, each restorable alone:

    train          step and PRNG key
    autoencoder    {"params", "ema", "opt"} in its own training; {"params", "mean", "std"} once frozen
    text_encoder   {"ema"} and, where it is trained, "params" and "opt"
    expert_00 ...  {"ema", "params", "opt"} of each expert
    tokenizer      its files, as bytes

and metadata: the config, the target, the fingerprint of the data and how many of its examples were seen. A checkpoint
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

from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.tokenizers import Tokenizer, load_tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.training import folders

FORMAT = 1
# What must agree between a checkpoint and the config that goes on with it, by the checkpoint's target.
AUTOENCODER = ("model.autoencoder", "model.image_size")
STAGE1 = ("dtype", "model", "diffusion", "tokenizer.kind", "tokenizer.vocab_size", "tokenizer.max_length")
HOW = (".remat", ".scan_layers")  # how a model is computed: may change at every start
SAME = {"autoencoder": AUTOENCODER, "stage1": STAGE1, "stage2": (*STAGE1, "experts.n", "experts.stages")}


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
        self.directory = epath.Path(folders.absolute(directory))
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
    path = folders.reach(path, "output")
    ocp.save_checkpointables(folders.absolute(path), items, custom_metadata=metadata)
    # Orbax notes the folder it wrote to in here; whoever gets a copy need not know it.
    (path / "commit_success.txt").write_text("Checkpoint commit was successful.")


def find(path: epath.PathLike, flag: str = "checkpoint") -> epath.Path:
    """The checkpoint that a person means by `path`: itself, or the newest of a run (stage 2 before stage 1).

    `flag` is what `path` was given as, for messages.
    """
    given = folders.reach(path, flag)
    if not given.is_dir():
        raise UserError(f"--{flag}={given}: there is no such folder")
    for place in (given, given / "stage2", given / "stage1"):
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
        metadata = ocp.metadata(folders.absolute(path), checkpointable_name=item).custom_metadata
    if not isinstance(metadata, dict) or "config" not in metadata:
        raise UserError(f"checkpoint {path} was not written by ernie_vilg_jax: it carries no config")
    if metadata.get("format") != FORMAT:
        raise UserError(f"checkpoint {path} has format {metadata.get('format')}, this version reads {FORMAT}")
    return metadata


def item_names(path: epath.Path) -> list[str]:
    """Names of the items in the checkpoint."""
    return sorted(folder.name for folder in path.iterdir() if folder.is_dir())


def read_items(path: epath.Path, abstract: dict[str, Any]) -> dict[str, Any]:
    """Restores items; `abstract` maps their names to trees of ShapeDtypeStruct (with sharding).

    A tree may leave out parts of an item: those are not read.
    """
    missing = set(abstract) - set(item_names(path))
    if missing:
        raise UserError(f"checkpoint {path} lacks {', '.join(sorted(missing))}; it holds {', '.join(item_names(path))}")
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    with reading(path), context:
        return ocp.load_checkpointables(folders.absolute(path), abstract)


def pack_tokenizer(tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """The tokenizer's files as arrays of bytes, by file name."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): np.frombuffer(path.read_bytes(), np.uint8) for path in files}


def read_tokenizer(path: epath.Path) -> Tokenizer:
    """The tokenizer inside a checkpoint."""
    with reading(path):
        files = ocp.load(folders.absolute(path), checkpointable_name="tokenizer")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(np.asarray(content).tobytes())
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


def check_same(path: epath.Path, config: ConfigDict, target: str) -> None:
    """Raises UserError naming the fields in which a checkpoint of `target` differs from `config` and must not.

    A field that is younger than the checkpoint had its default then.
    """
    saved, wanted = read_config(path, default_config()), json.loads(config.to_json_best_effort())
    before = json.loads(saved.to_json_best_effort())
    different = [
        f"{name} ({_get(before, name)!r} in the checkpoint, {_get(wanted, name)!r} now)"
        for field in SAME[target]
        for name in _leaves(field, _get(wanted, field))
        if not name.endswith(HOW) and _get(before, name) != _get(wanted, name)
    ]
    if different:
        raise UserError(
            f"checkpoint {path} is of another config: {'; '.join(different)}; use its config, or a new --workdir"
        )


def _get(tree: dict[str, Any], path: str) -> Any:
    value: Any = tree
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _leaves(path: str, value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        yield path
        return
    for name, inner in value.items():
        yield from _leaves(f"{path}.{name}", inner)
