"""What is set before the libraries are imported, or before the first program is compiled."""

import os
import platform
from pathlib import Path

# Set before the libraries are imported, and only if the user has not set them.
QUIET_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",  # XLA's C++ log: errors only
    "TRANSFORMERS_VERBOSITY": "error",  # no "PyTorch was not found": tokenizers need none
    "TOKENIZERS_PARALLELISM": "false",  # else it warns in every forked data worker
}


def silence_runtime() -> None:
    """Turns XLA's C++ log off, unless the user chose another level. Call it before jax is imported.

    For one of several processes: if another one is lost, C++ would print a stack, while `sharding.watch` logs a
    sentence.
    """
    name = "TF_CPP_MIN_LOG_LEVEL"
    if os.environ.get(name) == QUIET_ENVIRONMENT[name]:
        os.environ[name] = "4"


HUGE_PAGES = "glibc.malloc.hugetlb=1"


def huge_pages_tip(pages: Path = Path("/sys/kernel/mm/transparent_hugepage/enabled")) -> str | None:
    """What makes arrays of programs for this machine's CPU lie on huge pages; None if it is set, or changes nothing.

    The variable is read when a process starts: a running command cannot set it for itself.
    """
    if platform.libc_ver()[0] != "glibc" or HUGE_PAGES in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    if not pages.is_file() or "[madvise]" not in pages.read_text():
        return None
    return f"tip: with GLIBC_TUNABLES={HUGE_PAGES} before the command, training here is faster (docs/training.md)"
