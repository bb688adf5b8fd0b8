"""What is set before the libraries are imported, or before the first program is compiled."""

import os
from pathlib import Path

from absl import logging

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


def enable_compilation_cache() -> str | None:
    """Keeps compiled programs on disk, so that the second start of a command need not compile again.

    The folder is JAX_COMPILATION_CACHE_DIR, or ~/.cache/ernie_vilg_jax/xla by default. Returns the folder, or None if
    it cannot be written.
    """
    import jax

    if chosen := jax.config.values["jax_compilation_cache_dir"]:
        return chosen
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ernie_vilg_jax" / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logging.warning("No compilation cache: %s cannot be written (%s).", folder, error)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return str(folder)
