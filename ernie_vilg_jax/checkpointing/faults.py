"""Errors of Orbax as one sentence, with the remedy."""

import contextlib
import re
from collections.abc import Iterator

from etils import epath

from ernie_vilg_jax.checkpointing.folders import remedy
from ernie_vilg_jax.errors import UserError


@contextlib.contextmanager
def reading(path: epath.Path) -> Iterator[None]:
    """Turns any error of Orbax on reading a checkpoint into one sentence. A damaged one is never skipped."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except PermissionError as error:
        raise UserError(
            f"checkpoint {path} cannot be read: {error.strerror}; give this user the right to it"
        ) from error
    except Exception as error:  # of any type: Orbax, tensorstore or a JSON parser may raise
        raise UserError(
            f"checkpoint {path} cannot be read ({reason_of(error)}): it is damaged or incomplete; {remedy(path)}"
        ) from error


@contextlib.contextmanager
def writing(path: epath.Path, more: str = "") -> Iterator[None]:
    """Turns any error of Orbax on writing into one sentence."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # of any type, from the threads of Orbax and tensorstore
        raise UserError(
            f"checkpoint {path} could not be written ({reason_of(error)}){more}: free space, or give this user the "
            "right to write there, then run the same command again"
        ) from error


def reason_of(error: BaseException) -> str:
    """The first line of the root cause, without the names of classes."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [re.sub(r"<class '([\w.]*\.)?(\w+)'>", r"\2", line).strip() for line in str(error).splitlines()]
    text = next((line for line in lines if line), type(error).__name__)
    no_space = re.search(
        r"No space left on device|Disk quota exceeded|Read-only file system|Permission denied", str(error)
    )
    return no_space[0] if no_space else text[:200]
