"""Files and folders: URLs, file names inside files, and errors of the file system.

A folder may be a URL: a working directory can be gs://bucket/run as well as runs/demo.
"""

import contextlib
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from ernie_vilg_jax.errors import UserError, file_errors, first_line

INSTALL = {"gs": "gcsfs", "s3": "s3fs"}
SCRATCH = ".partial"
"""Folder inside an output folder for files that are not complete yet."""


def is_url(path: str | os.PathLike[str]) -> bool:
    return re.match(r"\w+://", str(path)) is not None


def absolute(path: epath.PathLike) -> str:
    """The path from the root, or the URL; for libraries that take strings."""
    return str(path) if is_url(path) else str(epath.Path(path).absolute())


def inside(path: epath.PathLike, folder: epath.PathLike) -> bool:
    """Whether `path` is `folder` or lies in it, links followed; neither has to exist."""
    inner, outer = (str(one) if is_url(one) else str(Path(one).expanduser().resolve()) for one in (path, folder))
    return f"{inner.rstrip('/')}/".startswith(f"{outer.rstrip('/')}/")


def reach(path: epath.PathLike, flag: str) -> epath.Path:
    """The path, as an object that reads and writes URLs as well. It need not exist.

    Raises UserError, naming `flag`, for a URL that cannot be reached: a missing package, bucket or permission.
    """
    if not is_url(path):
        return epath.Path(path).expanduser()
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
    except Exception as error:  # of any type, by the storage's client; its message has the reason
        raise UserError(
            f"--{flag}={path} cannot be reached ({first_line(error)}); check the URL and this machine's rights to it"
        ) from error
    return found


def url_file_system(url: str, what: str) -> Any:
    """The fsspec file system of a URL, without its cache of listings, which would hide what other machines write.

    Raises UserError, whose message begins with `what`, for an unknown scheme or a missing package.
    """
    import fsspec

    scheme = url.split("://", 1)[0]
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False)
    except ImportError as error:
        package = INSTALL.get(scheme, f"for {scheme}://")
        raise UserError(f"{what}{url} needs the package {package}: pip install {package}") from error
    except ValueError as error:
        known = " or ".join(f"{name}://" for name in INSTALL)
        raise UserError(f"{what}{url}: URLs of {scheme}:// are not known; give {known} or a local folder") from error


def local(path: epath.PathLike, flag: str) -> Path:
    """A path that must be on this machine. Raises UserError, naming `flag`, for a URL."""
    if is_url(path):
        raise UserError(
            f"--{flag}={path} is a URL, and has to be a path on this machine: mount the bucket (gcsfuse), or take a "
            "local folder and copy it (gcloud storage cp --recursive)"
        )
    return Path(path).expanduser()


def cache_folder() -> Path:
    """Where downloads and features are kept: $ERNIE_VILG_JAX_CACHE, by default ~/.cache/ernie_vilg_jax."""
    root = os.environ.get("ERNIE_VILG_JAX_CACHE")
    return Path(root).expanduser() if root else Path.home() / ".cache" / "ernie_vilg_jax"


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that a reader (or a run after a kill, or on a full disk) sees either all of it or none."""
    if path.exists() and not path.is_file():  # /dev/stdout must not be replaced
        with file_errors(path):
            path.write_bytes(data)
        return
    # Two workers with the same shard must not share a temporary file.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with file_errors(path), temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with file_errors():
            temporary.replace(path)
    finally:
        discard(temporary)


def discard(file: Path) -> None:
    """Deletes a file, if it is there and can be deleted."""
    with contextlib.suppress(OSError):
        file.unlink()


def check_writable(path: epath.PathLike, flag: str, name: str = "") -> None:
    """Raises UserError, naming `flag`, if its file `path` cannot be written: before the work, not after it.

    Creates parent folders; not for URLs. With `name`, the flag is a folder and `name` is the file in it.
    """
    file = local(path, flag) / name
    try:
        with file_errors(file.parent):
            if file.exists() and not file.is_file():  # a folder, or a device such as /dev/stdout
                file.open("wb").close()
                return
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=file.parent, suffix=".partial") as probe:
                probe.write(b"x")
    except UserError as error:
        raise UserError(f"--{flag}={path} cannot be written ({error})") from error
    except OSError as error:  # a name that is too long, a file system such as /proc
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"--{flag}={path} cannot be written ({reason}); choose another place") from error


@contextlib.contextmanager
def replacing(folder: epath.PathLike) -> Iterator[epath.Path]:
    """A folder to write in; at the end its content replaces that of `folder`, which is kept after an error.

    For a URL, where folders cannot be renamed, it is `folder` itself, emptied.
    """
    target = epath.Path(absolute(folder))
    if is_url(folder):
        if target.exists():
            target.rmtree()
        yield target
        return
    existed = target.exists()
    scratch = target / SCRATCH  # inside, because `folder` may be its own disk
    fresh = scratch / target.name  # Orbax writes beside the folder that it is given
    try:
        with file_errors():
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            yield fresh
            for old in [child for child in Path(target).iterdir() if child.name != SCRATCH]:
                shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
            for new in list(Path(fresh).iterdir()):
                new.rename(target / new.name)
    except UserError as error:
        raise UserError(str(error).replace(str(fresh), str(folder))) from error
    finally:
        for _ in range(50):  # threads of Orbax may keep writing for a while after one of them has failed
            shutil.rmtree(scratch, ignore_errors=True)
            if not scratch.exists():
                break
            time.sleep(0.1)
        if not existed:
            with contextlib.suppress(OSError):  # it now holds the new content, unless writing failed
                os.rmdir(target)


def is_empty(folder: epath.PathLike) -> bool:
    """Whether a folder is empty, or has only the leftovers of a killed `replacing`."""
    with file_errors(folder):
        return all(child.name == SCRATCH for child in epath.Path(folder).iterdir())


def plain_name(name: Any, where: str) -> str:
    """`name`, if it is a plain file name; it comes from inside a file of the same folder.

    Raises UserError for a path elsewhere: data from others must not choose which files are read or deleted.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or re.search(r"[/\\\0]", name):
        raise UserError(
            f"{where} names the file {name!r:.80}, which is not the plain name of a file beside it: "
            "do not use it, and get it again from whoever made it"
        )
    return name
