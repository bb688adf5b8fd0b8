"""The items of checkpoints, written and read: the only module that uses Orbax."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from orbax.checkpoint import v1 as ocp

from ernie_vilg_jax import checksums, paths
from ernie_vilg_jax.aliases import Tree
from ernie_vilg_jax.checkpointing.faults import reading, writing
from ernie_vilg_jax.checkpointing.folders import described, item_names, steps
from ernie_vilg_jax.checkpointing.metadata import check_items, read_metadata, seal
from ernie_vilg_jax.data import files
from ernie_vilg_jax.errors import UserError


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
    sums, handlers, last = {}, {}, {}
    for name, (source, item) in parts.items():
        stated = read_metadata(source, item).get("checksums", {}).get(item)
        sums[name] = stated or checksums.of_items({item: read_whole(source, item)})[item]
        with reading(source):
            last = described(source)
            handlers[name] = last["item_handlers"][item]
    last |= {"item_handlers": handlers, "custom_metadata": files.seal({**metadata, "checksums": sums})}
    with writing(path):
        for name, (source, item) in parts.items():
            for folder, _, names in (source / item).walk():
                target = path / name / folder.relative_to(source / item)
                target.mkdir(parents=True, exist_ok=True)
                for file in names:
                    (folder / file).copy(target / file, overwrite=True)
        (path / "_CHECKPOINT_METADATA").write_text(json.dumps(last))
        (path / "orbax.checkpoint").write_text("")
        (path / "commit_success.txt").write_text("Checkpoint commit was successful.")


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


def read_raw(path: epath.Path, item: str) -> Any:
    """A whole item as it was saved, whatever that is; the caller checks it."""
    with reading(path):
        return ocp.load(paths.absolute(path), checkpointable_name=item)
