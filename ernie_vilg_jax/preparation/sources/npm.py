"""Pinned npm packages: downloaded into a cache, their hashes checked, read as tars. Node is not needed."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pooch
from absl import logging

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.paths import cache_folder

REGISTRY = "https://registry.npmjs.org"
"""NPM_CONFIG_REGISTRY, an environment variable of npm, overrides it."""
SECONDS = 60
"""Seconds without a byte from the registry."""


@dataclasses.dataclass(frozen=True)
class Package:
    """One published version; `integrity` is the registry's "sha512-<base64>" of the tarball."""

    name: str
    version: str
    integrity: str

    @property
    def filename(self) -> str:
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"

    @property
    def url(self) -> str:
        registry = os.environ.get("NPM_CONFIG_REGISTRY", REGISTRY).rstrip("/")
        return f"{registry}/{self.name}/-/{self.name.rpartition('/')[2]}-{self.version}.tgz"


def cache_directory() -> Path:
    """Where tarballs are kept."""
    return cache_folder() / "npm"


def fetch(package: Package) -> Path:
    """Path of the package's tarball in the cache, downloaded if absent, its hash checked either way."""
    return _fetch(package, cache_directory())


@functools.cache
def _fetch(package: Package, folder: Path) -> Path:
    known = base64.b64decode(package.integrity.removeprefix("sha512-")).hex()
    what, target = f"{package.name}@{package.version}", folder / package.filename
    if not target.exists():
        logging.info("fetching %s", what)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        downloader: Any = pooch.HTTPDownloader(timeout=SECONDS)
        pooch.retrieve(package.url, f"sha512:{known}", package.filename, folder, downloader=downloader)
    except ValueError as error:  # the download has another hash
        raise UserError(
            f"{package.url} does not have the hash pinned for {what}: run again; if it repeats, do not trust the "
            "registry you use"
        ) from error
    except OSError as error:  # includes errors of requests
        raise UserError(
            f"{what} could not be fetched ({' '.join(str(error).split())[:200]}): check that this machine reaches "
            f"{package.url}, name a mirror in NPM_CONFIG_REGISTRY, or use the drawn shapes with "
            "--config=configs/demo.py:shapes"
        ) from error
    return target


class Tarball:
    """Read access to a fetched package; paths are relative to its `package/` folder."""

    def __init__(self, package: Package) -> None:
        self._path = fetch(package)
        with tarfile.open(self._path) as tar:
            self.names = frozenset(m.name.removeprefix("package/") for m in tar.getmembers() if m.isfile())

    def read(self, *names: str) -> dict[str, bytes]:
        """The requested files, in one pass (seeking in a gzip stream is slow)."""
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
