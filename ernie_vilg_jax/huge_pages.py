"""Huge pages for arrays on CPUs: faults of 4 kB pages take a quarter of a training step (benchmarks/NOTES.md)."""

import os
import platform
from pathlib import Path

SETTING = "glibc.malloc.hugetlb=1"


def tip(pages: Path = Path("/sys/kernel/mm/transparent_hugepage/enabled")) -> str | None:
    """How to get them for programs that run on this machine's CPU; None if they are there, or not to be had.

    The variable is read when a process starts: a running command cannot set it for itself.
    """
    if platform.libc_ver()[0] != "glibc" or SETTING in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    if not pages.is_file() or "[madvise]" not in pages.read_text():
        return None
    return f"tip: with GLIBC_TUNABLES={SETTING} before the command, training on a CPU is faster (docs/training.md)"
