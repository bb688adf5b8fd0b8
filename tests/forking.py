"""The server that forks the commands of tests (see `commands`), at the socket whose path is its argument.

    commands.py (in the tests) --starts once--> forking.py --forks--> watcher --forks--> the command
    forked.py (for each command) --arguments, folder, environment, files 0 to 2--> forking.py

The command's process has no device open yet; it runs the module from its first line to the end of the interpreter.
The server ends with its standard input.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

LIBRARIES = ("ernie_vilg_jax.pipeline", "ernie_vilg_jax.training.plan")
"""What most commands import."""
MORE = {
    "ernie_vilg_jax.demo": ("gradio",),
    "ernie_vilg_jax.human_study": ("ernie_vilg_jax.evaluation.study.report",),
    "ernie_vilg_jax.train": ("ernie_vilg_jax.training.train",),
}
"""What the server imports, too, before it forks the first command of a name. None defines flags or opens devices."""
READ_BY_IMPORTS = ("JAX_", "HF_HOME", "HF_ENDPOINT", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TF_CPP_MIN_LOG_LEVEL")
"""Beginnings of environment variables: a command for which one differs starts anew."""
ALONE = "alone"
"""In place of a socket: be the command that follows, without a server."""


def _serve(address: str) -> list[str]:
    """Returns in the process of each command, with the command; in the server itself, never."""
    for name in LIBRARIES:
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that watch over a command leave no trace
    own = dict(os.environ)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if listener not in ready:
            os._exit(0)
        connection, _ = listener.accept()
        text, descriptors, _, _ = socket.recv_fds(connection, 2**20, 3)
        while not text.endswith(b"\n"):
            text += connection.recv(2**20)
        request = json.loads(text)
        for name in MORE.get(request["words"][0], ()):
            importlib.import_module(name)
        gc.freeze()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            pid = os.fork()
            if pid == 0:
                connection.close()
                return _become(request, descriptors, own)
            _watch(pid, connection)
        connection.close()
        for descriptor in descriptors:
            os.close(descriptor)


def _watch(pid: int, connection: socket.socket) -> None:
    """Tells how the command ends; kills it when nobody waits for it."""
    os.setsid()
    connection.send(f"{pid}\n".encode())
    process = os.pidfd_open(pid)
    ready, _, _ = select.select([process, connection], [], [])
    if process not in ready:
        os.kill(pid, signal.SIGKILL)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    connection.send(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(request: Mapping[str, Any], descriptors: Sequence[int], own: Mapping[str, str]) -> list[str]:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    words, wanted = request["words"], request["environment"]
    if any(own.get(name) != wanted.get(name) for name in {*own, *wanted} if name.startswith(READ_BY_IMPORTS)):
        os.execv(sys.executable, [sys.executable, __file__, ALONE, *words])
    return words


if __name__ == "__main__":
    sys.argv = sys.argv[2:] if sys.argv[1] == ALONE else _serve(sys.argv[1])
    sys.path[:1] = [os.getcwd(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if "STORAGE_EMULATOR_HOST" not in os.environ:
        sys.modules["gcsfs"] = None  # type: ignore[assignment]  # as if not installed: no test waits for Google
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
