"""Checkpoints on the Hugging Face hub: hf://OWNER/NAME, or hf://OWNER/NAME@REVISION."""

import os
import re
from pathlib import Path

from ernie_vilg_jax.errors import UserError, first_line

SCHEME = "hf://"


def named(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a name on the hub."""
    return str(path).startswith(SCHEME)


def fetch(path: str, flag: str) -> Path:
    """The folder of a repository, downloaded into the hub's own cache; only what is new is transferred.

    Args:
      flag: the name of the flag or argument of `path`, for messages.

    Raises UserError if the name is malformed, or the repository cannot be reached and is not in the cache.
    """
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?/?", path)
    if match is None:
        raise UserError(f"--{flag}={path} must be hf://OWNER/NAME, or hf://OWNER/NAME@REVISION")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(match[1], revision=match[2]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise UserError(
            f"--{flag}={path} cannot be downloaded ({first_line(error)}); check the name and the network, or download "
            "the repository and give its folder"
        ) from error
