"""The launch scripts, how tests call them, and the flags that most calls have."""

import os
import shlex
import subprocess
from pathlib import Path

from tests.documents.blocks import commands

ROOT = Path(__file__).parents[2]

GOLDEN = ROOT / "tests" / "launch"

SCRIPTS = sorted((ROOT / "launch").glob("*.sh"))

PLACE = ["--name=ernie", "--zone=us-east5-a"]

CLUSTER = ["--cluster=ernie", "--zone=us-east5-a"]

RUN = ["--config=configs/paper.py:base,v5p_128", "--data=gs://bucket/data", "--workdir=gs://bucket/run"]

SLICE = [*PLACE, "--type=v5p-128", *RUN]

ODD = 'gs://bucket/it\'s a "run" of $HOME; 猫'


def launch(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [f"launch/{script}.sh", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        env={**os.environ, "TMPDIR": "/tmp", "HOME": "/home/user", "LC_ALL": "C.UTF-8", **environment},
    )


def readme_lines() -> list[list[str]]:
    """The lines of launch/README.md that call a script."""
    texts = (one.text for one in commands() if one.page == "launch/README.md")
    return [shlex.split(text) for text in texts if text.startswith("launch/")]
