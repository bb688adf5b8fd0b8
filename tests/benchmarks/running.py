"""Benchmarks, run as a user would."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(name: str, *arguments: object) -> str:
    """What `python -m benchmarks.<name>` prints."""
    line = [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, check=True, capture_output=True, text=True).stdout
