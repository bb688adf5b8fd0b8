"""Fake buckets: fsspec's file system in memory, filled from folders and compared with them."""

import hashlib
from pathlib import Path
from typing import Any

import fsspec
import pytest


@pytest.fixture
def memory() -> Any:
    """The file system of memory://, empty."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    return system


def upload(system: Any, folder: Path, url: str) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            system.pipe_file(f"{url}/{file.relative_to(folder).as_posix()}", file.read_bytes())


def contents_of(system: Any, url: str) -> dict[str, str]:
    """As `contents` of tests/preparation/folders.py."""
    root = system._strip_protocol(url)
    return {
        file.removeprefix(f"{root}/"): hashlib.sha256(system.cat_file(file)).hexdigest()
        for file in sorted(system.find(root))
    }
