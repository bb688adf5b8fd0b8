"""The error type for errors that users can fix, and the conversion of file system errors to it.

Commands print its message as a single sentence and exit with status 1 (see `cli`); anything else that
escapes a command is a bug and keeps its traceback.
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from typing import Any


class UserError(Exception):
    """An error in flags, config, data or checkpoint. The message says what is wrong, where, and how to fix it."""


def install(extra: str) -> str:
    """The remedy for missing packages of an extra of setup.py; not published, so from a clone."""
    return f"pip install '.[{extra}]', in a clone of the repository"


_NO_SPACE = "free some space there and run the same command again, or choose another place"
_NO_RIGHT = "give this user the right to it, or choose another place"
REMEDIES = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: _NO_SPACE,
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EISDIR: "a file belongs here, so move the folder away or choose another place",
    errno.ENOTDIR: "a file is where a folder belongs, so move it away or choose another place",
    errno.EEXIST: "a file is where a folder belongs, so move it away or choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "remove the link that leads back to itself",
    errno.EMFILE: "raise the limit of open files with `ulimit -n`",
    errno.ENFILE: "close other programs, or raise the machine's limit of open files",
    errno.EIO: "check the disk or the connection to it, then run the same command again",
}
"""Errors of the file system that users can fix, and how. Missing files are not included: the caller knows what the file
is for, and raises a better message."""
SPOKEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.EMFILE)
"""Errors that are also recognised by their text, in exceptions of other types."""
NAMELESS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.EIO)
"""Errors that are always about files; a missing permission may also be about a port."""


def file_error(error: BaseException, path: str | os.PathLike[str] | None = None) -> UserError | None:
    """An error of the file system as one sentence; None for any other error, such as a bug.

    Libraries in C++ put the system's text into their own errors (ArrayRecord RuntimeError, Orbax ValueError). So an
    error with that text counts, whatever its type, and so does an error raised from one that counts.

    Args:
      path: the file that was read or written, for errors without it (a disk that fills up during a write) or with its
        temporary name.
    """
    cause: BaseException | None = error
    while cause is not None:
        code, named = _code_and_name(cause)
        if path and not (named and isinstance(cause, OSError) and not os.fsdecode(named).endswith(".partial")):
            named = path
        if code and named:
            return UserError(f"{os.fsdecode(named)}: {os.strerror(code).lower()}; {REMEDIES[code]}")
        if code in NAMELESS:
            return UserError(f"{os.strerror(code)} (here, or where TMPDIR says); {REMEDIES[code]}")
        cause = cause.__cause__
    return None


def _code_and_name(error: BaseException) -> tuple[int, Any]:
    """The error's number, 0 if it is not in REMEDIES, and its file, if it names one."""
    if isinstance(error, OSError):
        name = error.filename2 or error.filename
        return (error.errno if error.errno in REMEDIES else 0), None if isinstance(name, int) else name
    text = str(error)
    code = next((code for code in SPOKEN if re.search(rf"\b{os.strerror(code)}\b", text)), 0)
    named = re.search(r"(?<![\w.:/])/[^\s:;,'\"\]]+", text) if code else None
    return code, named and named[0]


def first_line(error: BaseException, most: int = 200) -> str:
    """The first line of an error's message, at most so many characters, for a sentence; its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most].rstrip(" .:")


@contextlib.contextmanager
def file_errors(path: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """A context, or a decorator, that turns what `file_error` understands into its UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (told := file_error(error, path)) is None:
            raise
        raise told from error
