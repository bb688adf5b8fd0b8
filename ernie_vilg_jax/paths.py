"""Folders that may be URLs: a working directory can be gs://bucket/run as well as runs/demo."""

import os
import re

from etils import epath

from ernie_vilg_jax.errors import UserError

INSTALL = {"gs": "gcsfs", "s3": "s3fs"}


def is_url(path: str | os.PathLike[str]) -> bool:
    return re.match(r"\w+://", str(path)) is not None


def absolute(path: epath.PathLike) -> str:
    """The path from the root, or the URL; for libraries that take strings."""
    return str(path) if is_url(path) else str(epath.Path(path).absolute())


def reach(path: epath.PathLike, flag: str) -> epath.Path:
    """The path, as an object that reads and writes URLs as well. It need not exist.

    Raises UserError, naming `flag`, for a URL that cannot be reached: no package for it, no bucket, no permission.
    """
    if not is_url(path):
        return epath.Path(path)
    scheme = str(path).split("://", 1)[0]
    if scheme not in INSTALL:
        known = " or ".join(f"{name}://" for name in INSTALL)
        raise UserError(f"--{flag}={path}: URLs of {scheme}:// are not known; give {known} or a local folder")
    found = epath.Path(path)
    try:
        found.exists()
    except ImportError as error:
        raise UserError(
            f"--{flag}={path} needs the package {INSTALL[scheme]}: pip install {INSTALL[scheme]}"
        ) from error
    except Exception as error:  # whatever the storage's client raises, it says why
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"--{flag}={path} cannot be reached ({reason}); check the URL and this machine's rights to it"
        ) from error
    return found
