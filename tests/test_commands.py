"""The commands that tests fork are what `python -m` starts: words, folder, environment, files, status, signals."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.commands import python_m

SAYS = """
import json, os, sys
try:
    import gcsfs
except ImportError:
    gcsfs = None
about = {"words": sys.argv[1:], "folder": os.getcwd(), "home": os.environ.get("HF_HOME"), "google": gcsfs is not None}
print(json.dumps(about))
print("said", file=sys.stderr)
if sys.argv[1:] == ["wait"]:
    sys.stdout.flush()
    import time
    time.sleep(60)
sys.exit(3)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "says.py").write_text(SAYS)
    return tmp_path


@pytest.mark.parametrize("changed", [{}, {"HF_HUB_DISABLE_TELEMETRY": "1"}, {"HF_HOME": "/elsewhere"}])
def test_a_command_is_that_of_python_m(folder: Path, changed: dict[str, str]) -> None:
    """Also one for which the server cannot stand, because imports have read its environment; none waits for Google."""
    environment = {**os.environ, **changed}
    done = subprocess.run(
        [*python_m(), "says", "a b", "--c=1"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    expected = {"words": ["a b", "--c=1"], "folder": str(folder), "home": environment.get("HF_HOME"), "google": False}
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (3, expected, "said\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_command(folder: Path, number: signal.Signals) -> None:
    process = subprocess.Popen([*python_m(), "says", "wait"], cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline()
    process.send_signal(number)
    assert process.wait(20) == -number
    assert process.stdout.read() == "", "the pipe has ended, so the command has"
