"""The benchmark that kills runs: its comparisons, and one kill of a real run."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.chaos import metrics, summary
from tests.commands import python_m

ROOT = Path(__file__).parents[2]


def test_steps_done_twice_must_agree(tmp_path: Path) -> None:
    rows = [{"step": 1, "time": 1.0, "train/loss": 0.5}, {"step": 2, "train/loss": 0.25}, {"step": 1, "time": 9.0}]
    again = {"step": 2, "time": 3.0, "train/loss": 0.250001}
    text = "\n".join(json.dumps(row) for row in [*rows, {"step": 1, "train/loss": 0.5}, again])
    (tmp_path / "metrics.jsonl").write_text(text + '\n{"step": 3, "train')
    found, damaged = metrics(tmp_path)
    assert {step: len(values) for step, values in found.items()} == {1: 1, 2: 2}
    assert damaged == 1


def test_summary_names_the_differences() -> None:
    killed = {"number": 0, "killed": True, "moment": "saving", "saving": True, "began": 0, "statuses": [-9]}
    ended = {"number": 1, "killed": False, "began": 6, "differences": ["losses of step 9"], "damaged_lines": 0}
    text = summary([killed, ended], 1)
    assert "1 kills of 1 process: 1 aimed at saving; 1 left a save unfinished." in text
    assert "1 differences from the unbroken run: losses of step 9." in text


@pytest.mark.slow
@pytest.mark.hosts
def test_a_killed_run_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    line = [*python_m(), "benchmarks.chaos", f"--work={tmp_path}", "--kills=1", "--steps=12", "--no-sigterm"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kills of 1 process" in done.stdout and "0 differences from the unbroken run" in done.stdout
    rows = [json.loads(row) for row in (tmp_path / "kills_1.jsonl").read_text().splitlines()]
    assert [row["killed"] for row in rows] == [True, False]
