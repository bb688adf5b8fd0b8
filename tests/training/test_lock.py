"""One training at a time in a working directory, also after its owner was killed."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from etils import epath

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.training import lock

HOLD = "import sys, time; from etils import epath; from ernie_vilg_jax.training.lock import locked\n"
HOLD += "with locked(epath.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_a_second_one_is_refused_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None and owner.stdout.readline() == "held\n"
    who = rf"--workdir={tmp_path} is in use by another training \(process {owner.pid} on "
    with pytest.raises(UserError, match=who), lock.locked(epath.Path(tmp_path)):
        pass
    with lock.locked(epath.Path(tmp_path / "another")):
        pass
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    with lock.locked(epath.Path(tmp_path)):
        assert json.loads((tmp_path / lock.NAME).read_text())["process"] == os.getpid()
    with lock.locked(epath.Path(tmp_path)):
        pass  # the owner has released it


def test_in_a_bucket_signs_of_life_count(tmp_path: Path) -> None:
    """A folder as a fake bucket: tests what is written, read and compared."""
    bucket = epath.Path(tmp_path)
    mark = tmp_path / lock.NAME
    with lock._beating(bucket, beat=0.1, stale=1.0):
        first = json.loads(mark.read_text())["alive"]
        time.sleep(0.4)
        assert json.loads(mark.read_text())["alive"] > first
        with pytest.raises(UserError, match="in use by another training"), lock._beating(bucket, 0.1, 1.0):
            pass
    assert not mark.exists()
    mark.write_text(json.dumps({"machine": "gone", "process": 1, "alive": time.time() - 0.5}))
    with pytest.raises(UserError, match=r"process 1 on gone.*this command works in [01] seconds"):
        lock._beating(bucket, 0.1, 1.0).__enter__()
    time.sleep(0.6)
    with lock._beating(bucket, 0.1, 1.0):
        assert json.loads(mark.read_text())["process"] == os.getpid()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"alive": 0}'])
def test_a_damaged_mark_stops_nobody(content: str, tmp_path: Path) -> None:
    (tmp_path / lock.NAME).write_text(content)
    for way in (lock._flocked, lambda folder: lock._beating(folder, 0.05)):
        with way(epath.Path(tmp_path)):
            pass


def test_a_file_system_without_locks_is_trained_on_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock.locked(epath.Path(tmp_path)):
        assert tmp_path.is_dir()
