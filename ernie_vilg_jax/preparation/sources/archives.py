"""Files with many examples each: finding them by a path, and their names in ids."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ernie_vilg_jax.data.files import file_sha256
from ernie_vilg_jax.errors import UserError

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def find_archives(source: str, path: str, suffix: str) -> dict[str, str]:
    """The path of each archive -> its name in ids: the file name, or the path if two have the same.

    Args:
      source: name of the source, for messages.
      path: an archive, a folder of archives, or a pattern of shells (*, ?, [], **) and of webdataset ({000..099}). An
        existing path is never a pattern.
      suffix: of archives in a folder.
    """
    given = Path(path).expanduser()
    if path and given.is_dir():
        found = sorted(str(file) for file in given.iterdir() if file.suffix == suffix and file.name[:2] != "._")
    elif given.is_file():
        found = [str(given)]
    else:
        found = sorted({file for one in _expanded(str(given)) for file in glob.glob(one, recursive=True)})
    if not path or not found:
        raise UserError(f"source {source!r}: path={path!r} matches no file")
    stems = [Path(file).stem for file in found]
    if len(set(stems)) < len(stems):
        root = os.path.commonpath([str(Path(file).parent) for file in found])
        stems = [Path(file).with_suffix("").relative_to(root).as_posix() for file in found]
    return dict(zip(found, stems, strict=True))


def hashes(archives: dict[str, str]) -> list[list[str]]:
    """[name, sha256] of each, for fingerprints."""
    names = {file: f"{name}{Path(file).suffix}" if "/" in name else Path(file).name for file, name in archives.items()}
    return [[name, file_sha256(Path(file))] for file, name in names.items()]


def _expanded(pattern: str) -> Iterator[str]:
    """The expansions of a pattern with {000..099}."""
    found = _BRACES.search(pattern)
    if not found:
        yield pattern
        return
    for number in range(int(found[1]), int(found[2]) + 1):
        yield from _expanded(f"{pattern[: found.start()]}{number:0{len(found[1])}d}{pattern[found.end() :]}")
