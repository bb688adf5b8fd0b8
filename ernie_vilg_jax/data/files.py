"""Files of prepared data: hashed, and sealed against edits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def digest(value: Any) -> str:
    """sha256 of a JSON-able value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with a digest of its other fields, with which `sealed` detects edits."""
    rest = {key: item for key, item in value.items() if key != "digest"}
    return {**rest, "digest": digest(rest)}


def sealed(value: Mapping[str, Any]) -> bool:
    """Whether an object is unchanged since `seal`. Objects of version 0.1 have no digest and are accepted."""
    return "digest" not in value or value == seal(value)


def sealed_json(value: Mapping[str, Any]) -> bytes:
    """A manifest or a note of progress, as the bytes of its file."""
    return (json.dumps(seal(value), indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()
