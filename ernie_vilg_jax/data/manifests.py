"""The manifest of a prepared directory: its shards, and whether they are unchanged.

`prepare` and `annotate` seal it with a digest of its content, so that edits are detected. It has the sha256 of every
shard, so that damaged and exchanged shards are detected.
"""

from __future__ import annotations

import concurrent.futures
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging
from etils import epath

from ernie_vilg_jax.data.files import file_sha256, sealed
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.paths import is_url, local, plain_name, reach, url_file_system
from ernie_vilg_jax.version import __version__

SCHEMA = 1
"""Version of the record and manifest format; increased when old data can no longer be read."""

MANIFEST = "manifest.json"
_MUCH = 10**10
"""Bytes of shards that take long enough to hash (about 10 s) for a log line."""
_READERS = 4
"""Shards that are hashed in parallel."""


def parse_manifest(data: bytes, where: str, fix: str) -> dict[str, Any]:
    """The manifest in the bytes of its file. Raises UserError if it was damaged or edited.

    Args:
      where: the file's name in messages.
      fix: the remedy.
    """
    try:
        manifest = json.loads(data)
        schema = manifest["schema"]
        if schema == SCHEMA:
            _check_manifest(manifest, where)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{where} is damaged ({str(reason)[:200]}): {fix}") from error
    if schema != SCHEMA:
        raise UserError(
            f"{where} has record schema {schema!r:.50}, but ernie_vilg_jax {__version__} reads only {SCHEMA}: {fix}"
        )
    return manifest


def _check_manifest(manifest: Mapping[str, Any], where: str) -> None:
    """Raises ValueError and the like if the manifest was changed or has invalid values."""
    if not sealed(manifest):
        raise ValueError("it was changed after it was written, for its digest is that of other content")
    if not isinstance(manifest["fingerprint"], str):
        raise ValueError("its fingerprint is not text")
    for split in manifest["splits"].values():
        for shard in split["shards"]:
            name = plain_name(shard["file"], where)
            counts = [shard["records"], shard["bytes"], *(count for _, count in shard["sources"])]
            if not all(isinstance(count, int) and count >= 0 for count in counts) or sum(counts[2:]) != counts[0]:
                raise ValueError(f"what it says of {name:.80} does not add up")
            if not isinstance(shard["sha256"], str):
                raise ValueError(f"the sha256 of {name:.80} is not text")


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Reads and checks `manifest.json` of a prepared directory."""
    directory = reach(path, "config.data.path")
    file = directory / MANIFEST
    fix = f"run `python -m ernie_vilg_jax.prepare --config=... --output={directory}` first"
    with file_errors(file):
        if not directory.is_dir():
            raise UserError(f"config.data.path={str(path)!r} is not a directory: {fix}")
        if not file.exists():
            raise UserError(f"{directory} holds no {MANIFEST} (preparation did not finish): {fix}")
        data = file.read_bytes()
    return parse_manifest(data, str(file), f"delete {directory} and run the command that made it again")


def check_shards(path: str | Path, split: str, *, verify: bool = True) -> list[dict[str, Any]]:
    """The manifest entries of a split's shards, after checking that each exists with the stated bytes.

    Args:
      path: prepared directory.
      split: "train" or "holdout".
      verify: also compare sha256, which reads every byte; this process does not read an unchanged shard twice. Without
        it, a shard of the right size is accepted.
    """
    manifest = read_manifest(path)
    if is_url(path):
        return _shards_behind(str(path), manifest, split)
    directory = local(path, "config.data.path")
    if split not in manifest["splits"]:
        raise UserError(f"{directory} has no split {split!r}, only {sorted(manifest['splits'])}")
    shards = manifest["splits"][split]["shards"]
    fix = redo(directory, manifest)
    stats = []
    for shard in shards:
        file = directory / shard["file"]
        with file_errors(file):
            if not file.exists():
                raise UserError(f"shard {file} is missing: {fix}")
            stat = file.stat()
        if stat.st_size != shard["bytes"]:
            raise UserError(f"shard {file} has {stat.st_size} bytes where the manifest says {shard['bytes']}: {fix}")
        stats.append((file, stat.st_size, stat.st_mtime_ns))
    if not verify:
        return shards
    if (total := sum(size for _, size, _ in stats)) > _MUCH:
        logging.info(
            "comparing %.0f GB of shards with the manifest; --config.data.verify_shards=False does without", total / 1e9
        )
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        for shard, found in zip(shards, pool.map(lambda stat: _verified_sha256(*stat), stats), strict=True):
            if found != shard["sha256"]:
                raise UserError(
                    f"shard {directory / shard['file']} is damaged or another one (its sha256 is not what the manifest "
                    f"says): {fix}"
                )
    return shards


def _shards_behind(url: str, manifest: Mapping[str, Any], split: str) -> list[dict[str, Any]]:
    """The same for a URL, by one listing: sizes are compared; copies (data/remote.py) are compared by their sha256."""
    if split not in manifest["splits"]:
        raise UserError(f"{url} has no split {split!r}, only {sorted(manifest['splits'])}")
    system = url_file_system(url, "the data ")
    found = {Path(file).name: info["size"] for file, info in system.find(url, maxdepth=1, detail=True).items()}
    shards = manifest["splits"][split]["shards"]
    for shard in shards:
        if (size := found.get(shard["file"])) != shard["bytes"]:
            what = "is missing" if size is None else f"has {size} bytes where the manifest says {shard['bytes']}"
            raise UserError(f"shard {url}/{shard['file']} {what}: {redo(url, manifest)}")
    return shards


@functools.cache
def _verified_sha256(file: Path, size: int, modified: int) -> str:
    """The file's sha256; `size` and `modified` are part of the cache's key, so a changed file is read again."""
    del size, modified
    with file_errors(file):
        return file_sha256(file)


def redo(directory: epath.PathLike, manifest: Mapping[str, Any]) -> str:
    """The remedy for a damaged directory: the command that made it."""
    command = "encode" if "encoding" in manifest else "annotate" if "annotation" in manifest else "prepare"
    return f"run `python -m ernie_vilg_jax.{command}` with --output={directory} again, it redoes damaged shards only"
