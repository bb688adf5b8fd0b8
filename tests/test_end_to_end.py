"""The commands as a user runs them, in separate processes: launch/local.sh on drawn shapes.

CI runs them with the documents (.ci/documents).
"""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands import interpreter, on_devices, python_m

pytestmark = [pytest.mark.slow, pytest.mark.documents]

ROOT = Path(__file__).parent.parent


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # One device, unlike the other tests: most users have one.
    env = {**os.environ, **on_devices(1), "PYTHON": interpreter(), **environment}
    return subprocess.run(words, cwd=ROOT, env=env, text=True, capture_output=True, timeout=900)


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return command(*python_m(), *words)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local")
    result = command("launch/local.sh", "configs/demo.py", "smoke", str(folder))
    assert result.returncode == 0, result.stderr[-3000:]
    for target in ("autoencoder", "base", "experts"):
        assert re.search(rf"{target} step 8/8  loss \S+  gradient \S+  \S+ images/s  .* left", result.stderr)
    return folder


def test_images_are_written(finished: Path) -> None:
    grid = Image.open(finished / "samples" / "grid.png")
    assert grid.width > 100
    picture = Image.open(finished / "samples" / "000.png")
    assert picture.size == (16, 16)
    assert picture.info["prompt"] == "红色的圆形"


def test_the_same_line_again_has_nothing_left_to_train(finished: Path) -> None:
    result = command("launch/local.sh", "configs/demo.py", "smoke", str(finished))
    assert result.returncode == 0, result.stderr[-3000:]
    assert "loss" not in result.stderr
    assert result.stderr.count("going on from step 8") == 3


def test_show_and_export(finished: Path, tmp_path: Path) -> None:
    shown = python("ernie_vilg_jax.checkpoint", "show", str(finished))
    assert shown.returncode == 0, shown.stderr
    assert "experts of config 'demo, smoke'" in shown.stdout
    exported = python("ernie_vilg_jax.checkpoint", "export", str(finished), str(tmp_path / "small"))
    assert exported.returncode == 0, exported.stderr
    arguments = ("--prompt=一颗星星", "--steps=2", f"--output={tmp_path / 'out'}")
    sampled = python("ernie_vilg_jax.sample", f"--checkpoint={tmp_path / 'small'}", *arguments)
    assert sampled.returncode == 0, sampled.stderr
    assert (tmp_path / "out" / "000.png").is_file()
    arguments = (*arguments[:2], "--mode=streamed", f"--output={tmp_path / 'streamed'}")
    sampled = python("ernie_vilg_jax.sample", f"--checkpoint={tmp_path / 'small'}", *arguments)
    assert sampled.returncode == 0, sampled.stderr
    pictures = [np.asarray(Image.open(tmp_path / folder / "000.png")).astype(int) for folder in ("out", "streamed")]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    refused = python("ernie_vilg_jax.sample", "--mode=pipelined", "--mesh=expert")
    assert refused.returncode == 1
    assert "--mesh=expert must be axes and sizes, such as --mesh=expert=4,data=2" in refused.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "--workdir=x"), "error: --config is missing"),
        (("train", "--config=configs/demo.py:base", "--workdir=x"), "error: --config.data.path is missing"),
        (("train", "--config=configs/demo.py:stage9", "--workdir=x"), "'stage9' is not one of"),
        (("train", "--config=configs/demo.py:base", "--config.phases.base.step=5", "--workdir=x"), "steps"),
        (("sample", "--checkpoint=/nowhere"), "error: --checkpoint=/nowhere: there is no such folder"),
        (("sample", "--steps=many"), "steps"),
        (("checkpoint", "show", "/nowhere"), "there is no such folder"),
        (("checkpoint",), "error: say `show CHECKPOINT`, `export CHECKPOINT OUTPUT`"),
    ],
)
def test_mistakes_get_one_sentence_and_status_1(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    module, *rest = words
    result = python(f"ernie_vilg_jax.{module}", *rest)
    assert result.returncode == 1, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len([line for line in result.stderr.splitlines() if "error:" in line]) == 1


def test_dry_run_prints_every_command() -> None:
    result = command("launch/local.sh", "--dry_run", "configs/demo.py", "quick", "runs/x", PYTHON="python3")
    commands = [line.split()[2].rpartition(".")[2] for line in result.stdout.splitlines()]
    assert commands == ["prepare", "train", "train", "train", "sample"]
