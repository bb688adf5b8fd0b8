"""Fake buckets: fsspec's file system in memory, and a server with the interface of Google Cloud Storage."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from benchmarks import bucket


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


@pytest.fixture(scope="session")
def bucket_server() -> Iterator[dict[str, str]]:
    """A server with the interface of Google Cloud Storage on this machine; the environment in which clients use it."""
    with bucket.bucket_server() as environment:
        yield environment


@pytest.fixture
def gcs(bucket_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file system of gs://, with an empty bucket gs://bucket."""
    for name, value in bucket_server.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("gs").clear_instance_cache()
    system = fsspec.filesystem("gs", use_listings_cache=False)
    if not system.exists("bucket"):
        system.mkdir("bucket")
    for file in system.find("bucket"):
        system.rm_file(file)
    yield system
    system.clear_instance_cache()
