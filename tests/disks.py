"""Real disks that are full, read-only or without permission, for tests of the commands' errors."""

import codecs
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NOBODY = 65534


class Disk:
    """A small file system in memory, mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mount(self, *arguments: str) -> bool:
        return subprocess.run(["mount", *arguments, str(self.path)], capture_output=True, check=False).returncode == 0

    def resize(self, kilobytes: int) -> None:
        assert self.mount("-o", f"remount,size={kilobytes}k")

    def make_read_only(self) -> None:
        assert self.mount("-o", "remount,ro")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    """disk(kilobytes) -> an empty disk of that size."""
    mounted: list[Disk] = []

    def make(kilobytes: int) -> Disk:
        path = tmp_path / f"disk{len(mounted)}"
        path.mkdir()
        new = Disk(path)
        if not shutil.which("mount") or not new.mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs"):
            pytest.skip("this machine does not let tests mount a disk")
        mounted.append(new)
        return new

    yield make
    for one in mounted:
        subprocess.run(["umount", "-l", str(one.path)], check=True)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can access, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="ernie_vilg_jax_") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Drops root's permissions, because root ignores the modes of files.

    Modules used inside must have been imported before: the interpreter may be in root's home folder.
    """
    codecs.lookup("utf-8-sig")
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        if not os.access(__file__, os.R_OK, effective_ids=True):
            pytest.skip("this clone is in a folder that other users cannot read")
        yield
    finally:
        os.seteuid(0)
