"""Fake buckets: fsspec's file system in memory, and a server with the interface of Google Cloud Storage."""

import hashlib
import logging
from collections.abc import Iterator
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


SETTINGS = {
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # would ask Google for the kind of the bucket
    "GOOGLE_CLOUD_PROJECT": "test",
    "GCE_METADATA_HOST": "127.0.0.1:1",  # nobody there, which is noticed at once
}


@pytest.fixture(scope="session")
def bucket_server() -> Iterator[dict[str, str]]:
    """A server with the interface of Google Cloud Storage on this machine; the environment in which clients use it."""
    from gcp_storage_emulator.server import create_server

    logging.getLogger("gcp_storage_emulator").setLevel(logging.WARNING)
    server = create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    listener: Any = server._api._httpd
    url = f"http://127.0.0.1:{listener.server_address[1]}"
    # The first is read by gcsfs, the second by ArrayRecord, the third by tensorstore.
    places = dict.fromkeys(
        ("STORAGE_EMULATOR_HOST", "CLOUD_STORAGE_EMULATOR_ENDPOINT", "TENSORSTORE_GCS_HTTP_URL"), url
    )
    yield places | SETTINGS
    server.stop()


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
