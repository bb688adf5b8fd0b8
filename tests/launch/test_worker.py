"""The script that runs on the workers."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.launch.scripts import ROOT, launch


def test_worker_starts_once_reports_and_stops(tmp_path: Path):
    """The script that runs on the workers, run here: it needs flock, which every Linux has."""
    if not shutil.which("flock"):
        pytest.skip("flock is not installed")
    (tmp_path / "launch").mkdir()
    for name in ("worker.sh", "common.sh"):
        shutil.copy(ROOT / "launch" / name, tmp_path / "launch")

    def worker(*words: str) -> str:
        line = [tmp_path / "launch" / "worker.sh", *words]
        return subprocess.run(line, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    def ended() -> str:
        for _ in range(100):
            if (status := worker("status")) != "running":
                return status
            time.sleep(0.1)
        return "running"

    assert worker("status") == "none"
    assert worker("start", "sh", "-c", "echo 'a b'; exit 3").startswith("started on ")
    assert ended() == "3"
    assert (tmp_path / "train.log").read_text() == "a b\n"
    saves = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); print(1, flush=True)\n"
    worker("start", sys.executable, "-c", saves + "time.sleep(60)")
    for _ in range(100):
        if (tmp_path / "train.log").read_text() == "a b\n1\n":
            break
        time.sleep(0.1)
    assert worker("status") == "running"
    assert worker("start", "false") == "already running: 1"
    worker("stop")
    assert worker("status") == "143"
    worker("stop")
    assert worker("start", "true").startswith("started on ") and ended() == "0"


def test_worker_prints_its_commands(tmp_path: Path):
    done = launch("worker", "--dry_run", "install")
    assert done.stdout.splitlines()[-1] == (
        "+ /home/user/.local/bin/uv pip install -q --python .venv -c constraints.txt -e '.[tpu]'"
    )
    assert launch("worker", "--dry_run", "start", "python", "a b").stdout == "+ python 'a b'\n"
    assert not (ROOT / "train.lock").exists()
