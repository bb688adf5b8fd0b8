"""However training ends, the save in progress is finished first and the reason is one sentence."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
from etils import epath

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.training import loop
from ernie_vilg_jax.training.autoencoder import AutoencoderTask
from ernie_vilg_jax.training.loop import Stopped, finishing
from tests.commands import on_devices, python_m
from tests.tiny_run import MakeConfig, train

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def run(data: Path, workdir: Path, *flags: str, phase: str = "autoencoder") -> subprocess.CompletedProcess[str]:
    """The real command, on one device."""
    line = [*python_m(), "ernie_vilg_jax.train", f"--config=demo:{phase},smoke", f"--config.data.path={data}"]
    environment = {**os.environ, **on_devices(1)}
    return subprocess.run([*line, f"--workdir={workdir}", *flags], capture_output=True, text=True, env=environment)


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on stderr that is not the log."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and len(done.stderr.splitlines()) < 40, done.stderr
    return errors[0]


@pytest.mark.proofs
def test_a_loss_that_is_not_finite_while_a_save_runs(data: Path, tmp_path: Path) -> None:
    flags = ("--config.phases.autoencoder.learning_rate=1e30", "--config.train.checkpoint_every=1")
    told = sentence(run(data, tmp_path, *flags, "--config.train.log_every=1", "--config.train.keep_checkpoints=20"))
    assert "autoencoder stopped: the loss of step" in told and "--config.phases.autoencoder.learning_rate" in told
    kept = checkpointing.steps(epath.Path(tmp_path / "autoencoder/checkpoints"))
    assert kept, "what was being saved is complete"
    assert not list((tmp_path / "autoencoder/checkpoints").glob("*tmp*"))
    path = epath.Path(tmp_path / f"autoencoder/checkpoints/{kept[-1]}")
    checkpointing.read_tokenizer(path)
    assert checkpointing.read_metadata(path)["step"] == kept[-1]


@pytest.mark.parametrize("what", [pytest.param("validate", marks=pytest.mark.proofs), "preview"])
def test_a_failure_of_validation_loses_no_step(
    what: str, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(AutoencoderTask, what, fail)
    every = {"phases.autoencoder.steps": 4, "train.checkpoint_every": 2, f"train.{what}_every": 2}
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        train(make_config("autoencoder", **every), tmp_path)
    assert checkpointing.steps(epath.Path(tmp_path / "autoencoder/checkpoints")) == [2]
    monkeypatch.undo()
    assert int(train(make_config("autoencoder", **every), tmp_path)["step"]) == 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB: room for two checkpoints of the smallest autoencoder, not for three."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.proofs
def test_a_full_disk_is_one_sentence_and_the_run_resumes(data: Path, small_disk: Path) -> None:
    flags = ("--config.train.checkpoint_every=2", "--config.train.keep_checkpoints=9", "--config.train.preview_every=0")
    told = sentence(run(data, small_disk, *flags))
    assert "could not be written (No space left on device)" in told and "is complete: free space" in told
    found = checkpointing.steps(epath.Path(small_disk / "autoencoder/checkpoints"))
    assert found, "the checkpoints before it are whole"
    for step in found[:-1]:
        shutil.rmtree(small_disk / f"autoencoder/checkpoints/{step}")
    subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True)
    done = run(data, small_disk, *flags)
    assert done.returncode == 0, done.stderr
    assert f"going on from step {found[-1]} " in done.stderr


@pytest.mark.parametrize("place", ["", "autoencoder", "autoencoder/checkpoints"])
def test_a_file_in_place_of_a_folder(place: str, data: Path, tmp_path: Path) -> None:
    target = tmp_path / "run" / place
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("")
    told = sentence(run(data, tmp_path / "run"))
    assert str(target) in told


def test_a_read_only_folder(data: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "read-only file system; choose a place" in sentence(run(data, small_disk / "run"))


def test_two_trainings_in_one_folder(data: Path, tmp_path: Path) -> None:
    """Reported before anything is read or compiled."""
    from ernie_vilg_jax.training.lock import locked

    with locked(epath.Path(tmp_path)):
        assert "is in use by another training" in sentence(run(data, tmp_path))


def test_the_lock_is_of_the_folder_alone(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config("autoencoder", **{"phases.autoencoder.steps": 1}), tmp_path)
    train(make_config("autoencoder", **{"phases.autoencoder.steps": 2}), tmp_path)
    with pytest.raises(UserError, match="--resume_from=7"):
        train(make_config("autoencoder"), tmp_path, resume_from=7)


def test_an_error_of_the_last_save_does_not_hide_the_cause(caplog: pytest.LogCaptureFixture) -> None:
    class Saved:
        def close(self) -> None:
            raise UserError("the disk is full")

    saved: Any = Saved()
    with pytest.raises(ValueError, match="what ended it"), caplog.at_level("ERROR", "absl"), finishing(saved):
        raise ValueError("what ended it")
    assert "the disk is full" in caplog.text
    with pytest.raises(UserError, match="the disk is full"), finishing(saved):
        pass


@pytest.mark.parametrize("what", ["validate", "preview"])
def test_a_stop_request_only_saves(
    what: str, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A preempted machine leaves seconds, too few for a preview."""
    monkeypatch.setattr(AutoencoderTask, what, lambda *_: pytest.fail(f"{what} ran after the request to stop"))
    move = loop.to_devices
    # The first step is running then; validation and a preview are due after it.
    monkeypatch.setattr(loop, "to_devices", lambda *args: (os.kill(os.getpid(), signal.SIGTERM), move(*args))[1])
    every = {f"train.{name}_every": 1 for name in ("validate", "preview")}
    with pytest.raises(Stopped, match="saved step 1"):
        train(make_config("autoencoder", **every), tmp_path)
