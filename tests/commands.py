"""Commands of the package, run as a user would, but fast: one process imports the libraries, then forks for each.

    results = run_all([["train", "--config=demo:base", "--dry_run"], ...])

As a program: reads such a list as JSON from stdin, and prints one of [exit status, stdout, stderr] as JSON.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Result(NamedTuple):
    status: int
    stdout: str
    stderr: str


def on_devices(count: int) -> dict[str, str]:
    """The environment of a process with that many devices, which finds what the tests have compiled."""
    return {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}"}


def run_all(
    commands: Sequence[Sequence[str]], cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> list[Result]:
    """The result of each command: the name of a module of the package, and its arguments."""
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps([list(command) for command in commands]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=cwd or root,
        env={**os.environ, "PYTHONPATH": root, **(environment or {})},
    )
    return [Result(*result) for result in json.loads(done.stdout)]


def _fork(command: Sequence[str]) -> list[Any]:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os.environ["PYTHONUNBUFFERED"] = "1"
            status = 70
            try:
                import runpy

                sys.argv[:] = [command[0], *command[1:]]
                runpy.run_module(f"ernie_vilg_jax.{command[0]}", run_name="__main__", alter_sys=True)
                status = 0
            except SystemExit as stopped:
                status = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return [os.waitstatus_to_exitcode(status), out.read(), err.read()]


if __name__ == "__main__":
    sys.modules["gcsfs"] = None  # type: ignore[assignment]  # as if not installed: no test waits for Google
    # Only imported: a device that was opened here would be shared by all, and flags belong to commands.
    for name in ("ernie_vilg_jax.pipeline", "ernie_vilg_jax.training.plan"):
        importlib.import_module(name)

    print(json.dumps([_fork(command) for command in json.load(sys.stdin)]))
