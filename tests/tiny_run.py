"""A whole tiny run on drawn shapes, made once: data, autoencoder, base, experts."""

import fcntl
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import pytest
from ml_collections import ConfigDict

from configs.demo import get_config
from ernie_vilg_jax.preparation.prepare import prepare
from ernie_vilg_jax.training.task import State
from ernie_vilg_jax.training.train import run
from tests import programs

MakeConfig = Callable[..., ConfigDict]


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that one of several parallel processes fills by `make`, for all."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    made = shared / f"{name}.made"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_file():
            folder = factory.mktemp(name)
            make(folder)
            made.write_text(str(folder))
    return Path(made.read_text())


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "shapes", lambda path: prepare(get_config("smoke"), path))


@pytest.fixture(scope="session")
def make_config(data: Path) -> MakeConfig:
    def make(target: str, **changes: Any) -> ConfigDict:
        config = get_config(f"{target},smoke")
        config.data.path = str(data)
        # Two programs to compile and a second of Orbax for each save; most tests check only how a training ends.
        config.train.validate_every = config.train.preview_every = 0
        config.train.checkpoint_every = 8
        config.update_from_flattened_dict(changes)
        return config

    return make


@pytest.fixture(scope="session")
def whole_run(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working directory in which all three phases are finished, with validation, previews and earlier checkpoints."""

    def make(workdir: Path) -> None:
        every = {"train.validate_every": 8, "train.preview_every": 8, "train.checkpoint_every": 4}
        for target in ("autoencoder", "base", "experts"):
            train(make_config(target, **every), workdir)

    return once(tmp_path_factory, "run", make)


def train(config: ConfigDict, workdir: Path, *, own_programs: bool = False, **options: Any) -> State:
    """`run` on one device: compiling for the eight fake ones takes several times as long.

    `own_programs` is for tests that replace parts of a program; others take those of runs before.
    """
    with nullcontext() if own_programs else programs.shared():
        return run(config, workdir, jax.devices()[:1], **options)
