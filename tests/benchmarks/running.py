"""Benchmarks, run as a user would."""

import subprocess
from pathlib import Path

from tests.commands import python_m

ROOT = Path(__file__).parents[2]


def run(name: str, *arguments: object) -> str:
    """What `python -m benchmarks.<name>` prints."""
    line = [*python_m(), f"benchmarks.{name}", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, check=True, capture_output=True, text=True).stdout
