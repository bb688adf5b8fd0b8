"""What is set before the libraries are imported, or before the first program is compiled."""

import os

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
