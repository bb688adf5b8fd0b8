"""Ports that commands listen at."""

import errno
import socket

from ernie_vilg_jax.errors import UserError


def check_free(host: str, port: int) -> None:
    """Raises UserError if the port cannot be used: before the work, not after it."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        code = error.errno or 0
        if code < 0 or code == errno.EADDRNOTAVAIL:  # not a name or address of this machine
            other = "--host=127.0.0.1"
        else:  # ports below 1024 need root
            other = "a --port from 1024 up" if code == errno.EACCES else f"--port={port % 65535 + 1}"
        reason = str(error.strerror).split(" (while")[0]
        raise UserError(f"--port={port} on --host={host} cannot be used ({reason}); try {other}") from error
