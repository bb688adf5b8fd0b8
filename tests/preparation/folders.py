"""Prepared folders, compared byte for byte."""

import hashlib
from pathlib import Path


def contents(path: Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


class Stop(Exception):
    pass
