"""The word lists and tables in `assets`: text files that people edit, one format for all."""

from functools import cache
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"


@cache
def rows(name: str) -> tuple[tuple[str, ...], ...]:
    """The lines of an asset as cells: split at tabs in a .tsv, at white space in a .txt; # starts a comment line."""
    separator = "\t" if name.endswith(".tsv") else None
    lines = (ASSETS / name).read_text(encoding="utf-8").splitlines()
    return tuple(tuple(line.split(separator)) for line in lines if line.strip() and not line.startswith("#"))


def words(name: str) -> frozenset[str]:
    """All cells of an asset."""
    return frozenset(word for row in rows(name) for word in row)
