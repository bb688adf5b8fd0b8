"""Files with many examples each: finding them by a path or URL, their names in ids, and copies of those behind URLs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import glob
import os
import posixpath
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ernie_vilg_jax.data.files import file_sha256
from ernie_vilg_jax.errors import UserError, file_error, first_line
from ernie_vilg_jax.paths import is_url, url_file_system
from ernie_vilg_jax.preparation.sources.pairs import PairSource

_CHECKSUMS = ("md5Hash", "crc32c", "ETag", "etag", "mtime", "LastModified", "created")
"""What file systems say of the content of a file, the best first."""
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclasses.dataclass
class ArchiveSource(PairSource):
    """Examples in archives, each of which is a part; `path` as `find_archives` takes it."""

    suffix: ClassVar[str] = ""

    @functools.cached_property
    def files(self) -> dict[str, str]:
        """Name in ids -> path or URL."""
        return {name: file for file, name in find_archives(self.name, self.path, self.suffix).items()}

    def parts(self) -> Sequence[str]:
        return list(self.files)

    def hashes(self) -> list[list[Any]]:
        """[file name, sha256] of each, for fingerprints; behind a URL [file name, size, the store's checksum]."""
        found: list[list[Any]] = []
        for name, file in self.files.items():
            shown = f"{name}{Path(file).suffix}" if "/" in name else Path(file).name
            found.append([shown, *_stated(file)] if is_url(file) else [shown, file_sha256(Path(file))])
        return found


def _stated(url: str) -> list[Any]:
    with _reaching(url):
        info = url_file_system(url, "the archive ").info(url)
    return [info["size"], next((str(info[name]) for name in _CHECKSUMS if info.get(name)), "")]


@contextlib.contextmanager
def fetched(file: str) -> Iterator[Path]:
    """The archive on this machine: itself, or a copy of one behind a URL, which is deleted afterwards."""
    if not is_url(file):
        yield Path(file)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / posixpath.basename(file)
        with _reaching(file):
            url_file_system(file, "the archive ").get_file(file, str(copy))
        yield copy


@contextlib.contextmanager
def _reaching(url: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of any type, by the storage's client
        raise file_error(error) or UserError(
            f"{url} cannot be reached ({first_line(error)}): check the URL and this machine's rights to it"
        ) from error


def find_archives(source: str, path: str, suffix: str) -> dict[str, str]:
    """The path of each archive -> its name in ids: the file name, or the path if two have the same.

    Args:
      source: name of the source, for messages.
      path: an archive, a folder of archives, or a pattern of shells (*, ?, [], **) and of webdataset ({000..099}), each
        of which may be a URL. An existing path is never a pattern.
      suffix: of archives in a folder.
    """
    if is_url(path):
        return _named(source, path, _behind(path, suffix))
    given = Path(path).expanduser()
    if path and given.is_dir():
        found = sorted(str(file) for file in given.iterdir() if file.suffix == suffix and file.name[:2] != "._")
    elif given.is_file():
        found = [str(given)]
    else:
        found = sorted({file for one in _expanded(str(given)) for file in glob.glob(one, recursive=True)})
    return _named(source, path, found if path else [])


def _behind(url: str, suffix: str) -> list[str]:
    """The URLs of archives, as `find_archives` finds files."""
    system, scheme = url_file_system(url, "the archives "), url.split("://", 1)[0]
    with _reaching(url):
        if not glob.has_magic(url) and not _BRACES.search(url) and system.isdir(url):
            found = [file for file in system.find(url, maxdepth=1) if file.endswith(suffix)]
        else:
            found = sorted({file for one in _expanded(url) for file in system.glob(one)})
    return [f"{scheme}://{file.lstrip('/')}" for file in found]


def _named(source: str, path: str, found: list[str]) -> dict[str, str]:
    if not found:
        raise UserError(f"source {source!r}: path={path!r} matches no file")
    stems = [Path(file).stem for file in found]
    if len(set(stems)) < len(stems):
        root = os.path.commonpath([str(Path(file).parent) for file in found])
        stems = [Path(file).with_suffix("").relative_to(root).as_posix() for file in found]
    return dict(zip(found, stems, strict=True))


def _expanded(pattern: str) -> Iterator[str]:
    """The expansions of a pattern with {000..099}."""
    found = _BRACES.search(pattern)
    if not found:
        yield pattern
        return
    for number in range(int(found[1]), int(found[2]) + 1):
        yield from _expanded(f"{pattern[: found.start()]}{number:0{len(found[1])}d}{pattern[found.end() :]}")
