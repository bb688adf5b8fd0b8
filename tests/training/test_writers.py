"""Where metrics go besides metrics.jsonl."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.training.metrics import MetricWriter
from ernie_vilg_jax.training.writers import WRITERS

CONFIG = ConfigDict({"seed": 1, "train": {"log_every": 10, "logs": ("tensorboard",)}})


def write(folder: Path, logs: tuple[str, ...], steps: tuple[int, ...] = (1, 2)) -> None:
    with MetricWriter(folder, logs=logs) as writer:
        writer.settings(CONFIG)
        for step in steps:
            writer.scalars(step, {"train/loss": 0.5 * step})
        writer.images(steps[-1], [np.zeros((8, 8, 3), np.uint8)], ["black"])


def scalars_in(folder: Path) -> list[tuple[int, float]]:
    """Of the event files, by tensorboardX's own messages."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    found = []
    for file in sorted((folder / "tensorboard").iterdir()):
        data = file.read_bytes()
        while data:  # length, its checksum, event, its checksum
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            found += [(event.step, v.simple_value) for v in event.summary.value if v.tag == "train/loss"]
            data = data[12 + length + 4 :]
    return found


class Recorded:
    """A double of the module wandb that records what it is told."""

    def __init__(self) -> None:
        self.inits: list[dict[str, Any]] = []
        self.logged: list[dict[str, Any]] = []
        self.config: dict[str, Any] = {}
        self.finished = 0
        self.fail = False
        self.Image = lambda image: ("image", image.shape)

    def init(self, **options: Any) -> Any:
        self.inits.append(options)
        if self.fail:
            raise ValueError("api_key not configured (no-tty)\nmore")
        return SimpleNamespace(
            config=SimpleNamespace(update=lambda values, allow_val_change: self.config.update(values)),
            define_metric=lambda name, step_metric: None,
            log=self.logged.append,
            finish=lambda: setattr(self, "finished", self.finished + 1),
        )


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    double = Recorded()
    monkeypatch.setitem(sys.modules, "wandb", double)
    for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return double


def test_both_get_all_that_is_written(wandb: Recorded, tmp_path: Path):
    write(tmp_path, ("tensorboard", "wandb"))
    assert scalars_in(tmp_path) == [(1, 0.5), (2, 1.0)]
    assert wandb.logged[:2] == [{"step": 1, "train/loss": 0.5}, {"step": 2, "train/loss": 1.0}]
    assert wandb.logged[2]["step"] == 2 and wandb.logged[2]["preview"][0] == "image"
    assert wandb.config["train.log_every"] == 10 and wandb.config["seed"] == 1
    assert wandb.inits[0]["project"] == "ernie_vilg_jax" and wandb.finished == 1


def test_torch_is_not_imported_for_tensorboard(tmp_path: Path):
    code = "import sys; from pathlib import Path; from ernie_vilg_jax.training.writers import TensorBoard; "
    code += "TensorBoard(Path(sys.argv[1]), 'x').close(); assert 'torch' not in sys.modules, 'takes seconds'; "
    code += "import torch"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_run_that_is_resumed_goes_on_in_the_same_run_of_wandb(
    wandb: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for folder in ("a", "a", "b"):
        write(tmp_path / folder, ("wandb",))
    first, again, other = (options["id"] for options in wandb.inits)
    assert first == again != other and wandb.inits[0]["resume"] == "allow"
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    write(tmp_path / "a", ("wandb",))
    assert wandb.inits[-1]["project"] == "mine"


@pytest.mark.parametrize("broken", WRITERS)
def test_one_that_fails_while_training_runs_is_left_out(
    broken: str, wandb: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(self: Any, step: int, scalars: Any) -> None:
        raise RuntimeError("the server is away")

    monkeypatch.setattr(WRITERS[broken], "write_scalars", fail)
    write(tmp_path, tuple(WRITERS))
    assert caplog.text.count(f"{broken} fails and is left out from here on (the server is away)") == 1
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["train/loss"] for line in lines] == [0.5, 1.0]
    other = scalars_in(tmp_path) if broken == "wandb" else [row for row in wandb.logged if "train/loss" in row]
    assert len(other) == 2


def test_mistakes_are_one_sentence(wandb: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"config\.train\.logs: 'wand' must be one of tensorboard, wandb"):
        write(tmp_path, ("wand",))
    wandb.fail = True
    with pytest.raises(UserError, match=r"cannot start \(api_key not configured \(no-tty\)\): run `wandb login`"):
        write(tmp_path, ("wandb",))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"needs the package wandb: pip install '\.\[wandb\]', in a clone"):
        write(tmp_path, ("wandb",))


def test_other_processes_write_nothing(wandb: Recorded, tmp_path: Path):
    with MetricWriter(tmp_path / "x", enabled=False, logs=("tensorboard", "wandb")) as writer:
        writer.settings(CONFIG)
        writer.scalars(1, {"a": 1.0})
    assert not wandb.inits and not (tmp_path / "x").exists()


@pytest.mark.hosts
def test_wandb_itself_takes_it_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The package, without its server: what it would send is in its own file."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    write(tmp_path, ("wandb",))
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    data = file.read_bytes()
    assert b"train/loss" in data and b"train.log_every" in data
    assert list(tmp_path.glob("wandb/offline-run-*/files/media/images/preview*.png"))
