"""Errors of the file system are one sentence, whichever library raises them; bugs are not."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ernie_vilg_jax.errors import REMEDIES, UserError, file_error, file_errors, first_line
from tests.disks import Disk, as_nobody


def caught(act: Callable[[], Any]) -> BaseException:
    with pytest.raises(Exception) as info:
        act()
    return info.value


def from_another(error: BaseException) -> BaseException:
    def act() -> None:
        raise ValueError("a library's wrapper") from error

    return caught(act)


def test_real_errors_name_file_cause_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    acts = {
        "is a directory; a file belongs here": tmp_path.read_bytes,
        "not a directory; a file is where a folder belongs": (tmp_path / "file/x").mkdir,
        "file exists; a file is where a folder belongs": (tmp_path / "file").mkdir,
        "file name too long; choose a shorter name": (tmp_path / ("x" * 300)).read_bytes,
    }
    for sentence, act in acts.items():
        told = str(file_error(caught(act)))
        assert told.startswith(str(tmp_path)) and sentence in told and "\n" not in told
    (tmp_path / "a").mkdir()
    told = str(file_error(caught(lambda: (tmp_path / "file").replace(tmp_path / "a"))))
    assert told.startswith(f"{tmp_path / 'a'}: is a directory"), "the place, not what was to be put there"


def test_a_full_and_a_read_only_disk(disk: Callable[[int], Disk]) -> None:
    small = disk(100)
    file = small.path / "data"

    def write() -> None:
        with file_errors(file):
            file.write_bytes(bytes(200_000))

    assert str(caught(write)) == f"{file}: no space left on device; {REMEDIES[errno.ENOSPC]}"
    small.make_read_only()
    assert str(caught(write)).startswith(f"{file}: read-only file system; choose a place that can be written")


def test_a_file_without_rights(open_folder: Path) -> None:
    (open_folder / "secret").write_text("x")
    (open_folder / "secret").chmod(0)
    with as_nobody():
        told = str(file_error(caught((open_folder / "secret").read_bytes)))
    assert told.startswith(f"{open_folder / 'secret'}: permission denied; give this user the right to it")


NO_SPACE = "write() failed: No space left on device; writing /data/x.array_record; at byte 2097152; Failed to close"
TENSORSTORE = (
    'RESOURCE_EXHAUSTED: Failed writing: "/runs/x/d/c7": Failed to write 9 bytes: No space left on device [28]'
)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError(NO_SPACE), "/data/x.array_record: no space left on device; free"),
        (ValueError(TENSORSTORE), "/runs/x/d/c7: no space left on device; free"),
        (
            ValueError("open() failed: Read-only file system; opening /data/y; Failed"),
            "/data/y: read-only file system;",
        ),
        (from_another(OSError(errno.EDQUOT, "Disk quota exceeded", "/home/x")), "/home/x: disk quota exceeded; free"),
        (from_another(from_another(RuntimeError(NO_SPACE))), "/data/x.array_record: no space left on device; free"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "No space left on device (here, or where TMPDIR says); free",
        ),
        (OSError(errno.EMFILE, "Too many open files", "/data/z"), "/data/z: too many open files; raise the limit"),
        (OSError(errno.EIO, "Input/output error", b"/data/z"), "/data/z: input/output error; check the disk"),
    ],
)
def test_errors_of_libraries_that_hold_the_systems_words(error: BaseException, sentence: str) -> None:
    assert str(file_error(error)).startswith(sentence)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("permission"),
        ValueError("this name exists"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/nowhere"),
        PermissionError(errno.EACCES, "Permission denied"),  # of a port
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        OSError("something else"),
        OSError(errno.EACCES, "Permission denied", 3),
    ],
)
def test_bugs_are_not_converted(error: BaseException) -> None:
    assert file_error(error) is None

    @file_errors()
    def act() -> None:
        raise error

    assert caught(act) is error


def test_a_bug_after_an_error_that_was_dealt_with_is_a_bug() -> None:
    def act() -> None:
        try:
            os.mkdir("/proc/x")
        except OSError:
            raise ZeroDivisionError  # noqa: B904 (in the course of handling, not because of it)

    assert file_error(caught(act)) is None


def test_the_error_knows_better_than_the_context_unless_its_name_is_temporary(tmp_path: Path) -> None:
    for name, shown in ((tmp_path / "source.png", tmp_path / "source.png"), (tmp_path / ".x.partial", "x")):
        told = file_error(OSError(errno.EACCES, "Permission denied", str(name)), "x")
        assert str(told).startswith(f"{shown}: permission denied")
    with pytest.raises(UserError, match=r"^no shard$"), file_errors("x"):
        raise UserError("no shard")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("first. \nsecond"), "first"),
        (OSError("\n  no such shard.\n"), "no such shard"),
        (KeyError(), "KeyError"),
        (RuntimeError("x" * 300), "x" * 200),
    ],
)
def test_the_first_line_of_an_error_fits_into_a_sentence(error: Exception, told: str) -> None:
    assert first_line(error) == told
