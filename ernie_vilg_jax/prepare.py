"""Turns sources into sharded records: `python -m ernie_vilg_jax.prepare --config=configs/demo.py --output=data/demo`.

Run it again after an interruption: finished shards are kept and the result is the same, byte for byte.
"""

from __future__ import annotations

import sys

from absl import app, flags, logging
from ml_collections import config_flags

from ernie_vilg_jax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "Python file with get_config(), optionally `:argument`.")
_OUTPUT = flags.DEFINE_string("output", None, "Directory to write.")


def main(argv: list[str]) -> None:
    del argv
    from ernie_vilg_jax.data.preparation import prepare

    try:
        prepare(_CONFIG.value, _OUTPUT.value)
    except UserError as error:
        sys.exit(f"error: {error}")
    logging.info("prepared %s: look at preview.png there, then train with --config.data.path=%s", *[_OUTPUT.value] * 2)


def run() -> None:
    """Console entry."""
    logging.set_verbosity(logging.INFO)
    flags.mark_flags_as_required(["config", "output"])
    app.run(main)


if __name__ == "__main__":
    run()
