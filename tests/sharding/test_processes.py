"""Flags that name processes, rows of processes, and the watch over them, all in this one process."""

import socket
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sharding import processes, rules
from ernie_vilg_jax.sharding.mesh import make_mesh
from ernie_vilg_jax.sharding.watch import BEAT, SILENCE, Watch, about_peers


@pytest.mark.parametrize(
    ("distribute", "coordinator", "count", "number", "message"),
    [
        (False, "host:1", None, None, "--num_processes and --process_id must be given with --coordinator: give all"),
        (False, None, 2, 0, "--coordinator must be given with --num_processes and --process_id"),
        (True, None, None, 1, "--coordinator and --num_processes must be given with --process_id"),
        (True, "host:1", 2, 0, "--distributed finds the other processes by itself, while --coordinator"),
        (False, "host", 2, 0, "--coordinator=host must be HOST:PORT"),
        (False, "host:http", 2, 0, "--coordinator=host:http must be HOST:PORT"),
        (False, "host:1", 0, 0, "--num_processes=0 must be at least 1"),
        (False, "host:1", 2, 2, "--process_id=2 must be from 0 to 1, with --num_processes=2"),
        (False, "host:1", 2, -1, "--process_id=-1 must be from 0 to 1"),
    ],
)
def test_flags_that_cannot_go_together(
    distribute: bool, coordinator: str | None, count: int | None, number: int | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        processes.initialize(distribute, coordinator, count, number)


def test_one_process_needs_nothing(tmp_path: Path) -> None:
    with processes.together():
        assert (processes.index(), processes.count(), processes.name()) == (0, 1, "")
        processes.agree({"anything": 1})
        processes.check_shared(epath.Path(tmp_path))
    assert not list(tmp_path.iterdir())


def test_rows_are_those_of_the_devices() -> None:
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    assert processes.own_rows(rules.batch_sharding(mesh), 8) == tuple(range(8))
    array = processes.to_all({"x": np.arange(6)}, rules.replicated(mesh))["x"]
    assert array.is_fully_replicated and np.array_equal(array, np.arange(6))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer [10.0.0.3]:4485"), True),
        (jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: Barrier timed out"), True),
        (UserError("checkpoint x cannot be read, it is damaged (Connection reset by peer)"), True),
        (UserError("--config.seed is missing"), False),
        (KeyError("params"), False),
    ],
)
def test_which_errors_may_come_from_others(error: Exception, expected: bool) -> None:
    assert about_peers(error) == expected


class Store:
    """The key-value store of jax.distributed, in this process."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.gone = False

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        assert allow_overwrite
        if self.gone:
            raise RuntimeError("UNAVAILABLE")
        self.values[key] = value

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        if self.gone:
            raise RuntimeError("UNAVAILABLE")
        return [(name, value) for name, value in self.values.items() if name.startswith(key)]


class Group:
    """Three watches on one store, and their messages when one process is lost."""

    def __init__(self) -> None:
        self.store = Store()
        self.said: dict[int, str] = {}
        self.watches = [
            Watch(self.store, host, 3, "nowhere.invalid:1", lambda words, host=host: self.say(host, words), 0.02, 0.4)
            for host in range(3)
        ]
        for watch in self.watches:
            watch.start()
        time.sleep(0.6)  # longer than the silence after which a process counts as dead

    def say(self, host: int, words: str) -> None:
        self.said[host] = words

    def wait(self) -> None:
        for watch in self.watches:
            watch.join(10)
        assert not any(watch.is_alive() for watch in self.watches)


def test_a_silent_process_is_named_by_all_and_none_before() -> None:
    group = Group()
    assert not group.said
    group.watches[2].end()
    group.wait()
    assert group.said.keys() == {0, 1}
    assert all(words.startswith("process 2 has given no sign of life for ") for words in group.said.values())


def test_last_words_are_reported_by_all() -> None:
    group = Group()
    group.watches[1].farewell("the data\nare gone")
    group.wait()
    assert group.said == dict.fromkeys((0, 2), "process 1 stopped: the data are gone")


def test_without_the_store_process_0_is_named() -> None:
    group = Group()
    group.store.gone = True
    group.wait()
    assert all(words.startswith("process 0 has given no sign of life for ") for words in group.said.values())
    assert group.watches[1].after_abort().startswith("process 0 has given no sign of life")


def test_process_0_is_named_if_its_store_was_still_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        watch = Watch(Store(), 1, 3, address)
        monkeypatch.setattr(watch, "await_verdict", lambda: None)
        assert watch.after_abort().startswith("the distributed runtime gave up")
        monkeypatch.setattr(watch, "await_verdict", server.close)
        assert watch.after_abort().startswith(f"process 0, at {address}, is gone; ")


def test_jax_notices_a_death_later_than_the_watch() -> None:
    """Otherwise Orbax, which waits for the dead process in a save, prints its traceback before our sentence."""
    detected = SILENCE + 2 * BEAT  # by process 0, which then lingers for 2.5 beats
    assert detected + 2.5 * BEAT < processes.HEARTBEAT_TIMEOUT / 2


def test_a_finished_watch_says_nothing() -> None:
    group = Group()
    for watch in group.watches:
        watch.end()
    group.wait()
    assert not group.said
