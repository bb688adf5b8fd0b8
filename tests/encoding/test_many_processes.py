"""Processes share the shards, and write what one would; so does a run that is killed and started again."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.commands import python_m
from tests.encoding.pictures import contents

pytestmark = pytest.mark.hosts

ROOT = Path(__file__).parents[2]


def command(source: Path, output: Path, parts: Path, *more: str) -> subprocess.Popen[str]:
    line = [*python_m(), "ernie_vilg_jax.encode", "--config=configs/demo.py:base,smoke", "--config.seed=3"]
    line += [f"--config.model.{name}=8" for name in ("text_encoder.width", "unet.base_channels", "unet.head_channels")]
    line += [f"--input={source}", f"--output={output}", f"--checkpoint={parts}", "--dtype=float32", *more]
    environment = {**os.environ, "XLA_FLAGS": ""}
    return subprocess.Popen(line, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def test_two_processes_write_what_one_writes(
    images: Path,
    autoencoder: Path,
    tmp_path: Path,
) -> None:
    alone = command(images, tmp_path / "alone", autoencoder)
    assert alone.wait(300) == 0, alone.stderr and alone.stderr.read()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = [f"--coordinator=127.0.0.1:{port}", "--num_processes=2"]
    both = [command(images, tmp_path / "both", autoencoder, *flags, f"--process_id={k}") for k in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert contents(tmp_path / "both") == contents(tmp_path / "alone")

    killed = command(images, tmp_path / "killed", autoencoder)
    deadline = time.monotonic() + 200
    while not list((tmp_path / "killed").glob(".progress/*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    again = command(images, tmp_path / "killed", autoencoder)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert contents(tmp_path / "killed") == contents(tmp_path / "alone")
