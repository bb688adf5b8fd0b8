"""`python -I -S forked.py SOCKET MODULE ...` does what `python -m MODULE ...` does, sooner (see `commands`).

This process stands for the command: it has its arguments, folder, environment, files and exit status, passes signals on
to it, and takes it along when it is killed. Imports as little as possible, because it starts for each command.
"""

import json
import os
import signal
import socket
import sys

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main() -> None:
    server, *words = sys.argv[1:]
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(server)
    request = json.dumps({"words": words, "folder": os.getcwd(), "environment": dict(os.environ)})
    socket.send_fds(connection, [f"{request}\n".encode()], [0, 1, 2])
    answers = connection.makefile()
    command = int(answers.readline())
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: os.kill(command, number))
    status = int(answers.readline())
    if status < 0:  # ended by a signal: end in the same way
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    main()
