"""Every way in which a server cannot listen is one sentence with a flag to try; tests/test_demo.py has a taken port."""

import re
import socket

import portpicker
import pytest

from ernie_vilg_jax import cli
from ernie_vilg_jax.errors import UserError


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("nowhere.invalid", "cannot be used (Name or service not known)"),
        ("192.0.2.1", "cannot be used (Cannot assign requested address)"),
        ("..", "cannot be used (Name or service not known)"),
    ],
)
def test_a_host_that_is_not_this_machine(host: str, told: str) -> None:
    with pytest.raises(UserError, match=f"{re.escape(told)}; try --host=127.0.0.1$"):
        cli.check_free(host, portpicker.pick_unused_port())


def test_a_port_that_is_taken_and_one_that_is_free() -> None:
    cli.check_free("127.0.0.1", portpicker.pick_unused_port())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"--port={port} on --host=127.0.0.1 cannot .*; try --port={port % 65535 + 1}$"
        ):
            cli.check_free("127.0.0.1", port)
