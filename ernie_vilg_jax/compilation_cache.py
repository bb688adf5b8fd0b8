"""Compiled programs on disk, so that the next process need not compile them again."""

import os
from pathlib import Path

from absl import logging


def enable() -> str | None:
    """Keeps compiled programs on disk, for commands and for `load`.

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
