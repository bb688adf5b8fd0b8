"""Quiet logs: one short line a message, and libraries only with their warnings."""

import logging
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any

from absl import flags
from absl import logging as absl_logging

PACKAGE = str(Path(__file__).parents[1])


def quiet_logging() -> None:
    """One short line per message, and no library logs; --verbosity restores absl's full log."""
    if flags.FLAGS["verbosity"].present:
        return
    absl_logging.use_absl_handler()
    absl_logging.set_verbosity(absl_logging.INFO)
    handler = absl_logging.get_absl_handler()
    if not any(isinstance(f, _QuietFilter) for f in handler.filters):
        handler.addFilter(_QuietFilter())
    handler.setFormatter(_QuietFormatter())
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)  # from Orbax, after it raised
    threading.excepthook = _outside_main
    sys.unraisablehook = _outside_main


def _ours(record: logging.LogRecord) -> bool:
    return record.pathname.startswith(PACKAGE)


class _QuietFilter(logging.Filter):
    """INFO from this package, WARNING and worse from everyone; without the errors that Orbax both logs and raises."""

    def filter(self, record: logging.LogRecord) -> bool:
        orbax = "/orbax/" in record.pathname
        raised = record.exc_info and (orbax or record.name == "asyncio")
        raised = raised or (orbax and "incompatible handler" in record.getMessage())  # before a damaged file's error
        return _ours(record) or (record.levelno >= logging.WARNING and not raised)


class _QuietFormatter(logging.Formatter):
    """12:34:56 message; only the first line of a library's, without a traceback: --verbosity=0 shows the rest."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        text = record.getMessage()
        if not _ours(record):
            text = (text.strip().splitlines() or [""])[0]
        elif record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return f"{self.formatTime(record, '%H:%M:%S')} {level}{text}"


def _outside_main(failed: Any) -> None:
    """An error that nothing can catch, in a thread or at exit: one line if it is a library's, all of it if it is ours.

    If the failure of a library's thread matters, it also stops the command when a save is waited for or a file is
    closed. After that, dozens of Orbax's threads fail because its event loop is closed, which is not reported.
    """
    frames = traceback.extract_tb(failed.exc_traceback)
    if any(frame.filename.startswith(PACKAGE) for frame in frames):
        traceback.print_exception(failed.exc_type, failed.exc_value, failed.exc_traceback)
    elif not isinstance(failed.exc_value, BrokenPipeError) and str(failed.exc_value) != "Event loop is closed":
        reason = " ".join(str(failed.exc_value).split()) or failed.exc_type.__name__
        print(f"warning: {reason} (in a thread of a library)", file=sys.stderr)
