"""Logs are short, and what nothing can catch is one line."""

import io
import logging
import subprocess
import sys
from pathlib import Path

from absl import logging as absl_logging

from ernie_vilg_jax import cli
from tests.cli.commands import run


def test_logs_are_short_and_libraries_are_silent_below_warning(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(absl_logging.get_absl_handler().python_handler, "stream", log)

    def main(argv):
        handler = absl_logging.get_absl_handler()
        own = str(Path(cli.__file__).parents[1] / "train.py")
        for path, level in ((own, logging.INFO), ("/lib/orbax.py", logging.INFO), ("/lib/orbax.py", logging.WARNING)):
            handler.handle(logging.LogRecord("absl", level, path, 1, f"from {Path(path).stem}", (), None))
        try:
            raise ValueError("lost")
        except ValueError:
            handled = "Failed to get metadata due to incompatible handler: <object at 0x7f>"
            handler.handle(logging.LogRecord("absl", logging.WARNING, "/lib/orbax/layout.py", 1, handled, (), None))
            for path in (own, "/lib/other.py", "/lib/orbax/future.py", "/lib/asyncio"):  # Orbax raises what it logs
                text = f"from {Path(path).stem}\nTraceback"
                name = Path(path).stem if path.endswith("asyncio") else "absl"
                handler.handle(logging.LogRecord(name, logging.ERROR, path, 1, text, (), sys.exc_info()))

    assert run(monkeypatch, main) == 0
    lines = [line[9:] if line[2:3] == ":" else line for line in log.getvalue().splitlines()]
    assert lines[:4] == ["from train", "warning: from orbax", "error: from train", "Traceback"]
    assert lines[-2:] == ["ValueError: lost", "error: from other"]


THREADS = """
import sys, threading
from ernie_vilg_jax import cli
def late():
    raise RuntimeError("Event loop is closed")
def library():
    raise OSError("handle is closed")
def own():
    exec(compile("raise ValueError('ours')", cli.__file__, "exec"))
def main(argv):
    for target in (late, library, own):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
cli.run(main)
"""


def test_a_thread_of_a_library_that_fails_is_one_line():
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True)
    assert done.returncode == 0
    first, second, *rest = done.stderr.splitlines()
    assert first == "warning: handle is closed (in a thread of a library)"
    assert second == "Traceback (most recent call last):" and rest[-1] == "ValueError: ours", (
        "a bug keeps its traceback"
    )


FALLS = """
import sys
from ernie_vilg_jax import cli
from ernie_vilg_jax.errors import UserError

class Handle:
    def __del__(self): raise OSError("handle is closed")

def main(argv):
    handle = Handle()
    del handle
    if "fail" in argv:
        raise UserError("the cause")

def late(*_):
    handle = Handle()
    del handle

import atexit
atexit.register(late)
cli.run(main, ["p", *sys.argv[1:]], positional=True)
"""


def test_errors_at_exit_are_one_line_and_none_after_an_error():
    """Python prints what nothing can catch, such as an error in __del__, with a traceback."""
    for arguments, told in (
        ([], ["warning: handle is closed (in a thread of a library)"] * 2),
        (["fail"], ["warning: handle is closed (in a thread of a library)", "error: the cause"]),
    ):
        done = subprocess.run([sys.executable, "-c", FALLS, *arguments], capture_output=True, text=True)
        assert done.stderr.splitlines() == told
