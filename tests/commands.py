"""Commands of the package and of benchmarks, run as a user would, but fast: a server imports the libraries once.

    subprocess.run([*python_m(), "ernie_vilg_jax.sample", ...])     # python_m() is `python -m`, sooner
    results = run_all([["train", "--config=demo:base", "--dry_run"], ...])
    PYTHON=interpreter() launch/local.sh ...                        # for scripts that say `"$PYTHON" -m`

The server forks a process for each command, before any device is opened. That process runs the module from its first
line to the end of the interpreter. Tests of what an import or a start costs, or needs, take `python -m` itself.
"""

from __future__ import annotations

import atexit
import functools
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
FORKED = Path(__file__).with_name("forked.py")
SERVER = Path(__file__).with_name("forking.py")


class Result(NamedTuple):
    status: int
    stdout: str
    stderr: str


def on_devices(count: int) -> dict[str, str]:
    """The environment of a process with that many devices, which finds what the tests have compiled."""
    return {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"}


def python_m() -> list[str]:
    """`python -m`, for `subprocess`: a module and its arguments follow."""
    if not hasattr(os, "pidfd_open"):  # not Linux
        return [sys.executable, "-m"]
    return [sys.executable, "-I", "-S", str(FORKED), _server()]


@functools.cache
def interpreter() -> str:
    """The path of a program whose `-m` is that of `python_m`."""
    path = Path(tempfile.mkdtemp()) / "python"
    path.write_text(f'#!/bin/sh\n[ "$1" = -m ] && shift\nexec {shlex.join(python_m())} "$@"\n')
    path.chmod(0o755)
    return str(path)


def run_all(
    commands: Sequence[Sequence[str]], cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> list[Result]:
    """The result of each command: the name of a module of the package, and its arguments."""
    results = []
    for name, *arguments in commands:
        done = subprocess.run(
            [*python_m(), f"ernie_vilg_jax.{name}", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd or ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        )
        results.append(Result(done.returncode, done.stdout, done.stderr))
    return results


@functools.cache
def _server() -> str:
    """The socket of the server, which is started once."""
    address = str(Path(tempfile.mkdtemp()) / "server")
    line = [sys.executable, str(SERVER), address]
    server = subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None and server.stdout is not None
    atexit.register(server.stdin.close)
    assert server.stdout.readline() == b"ready\n"
    return address
