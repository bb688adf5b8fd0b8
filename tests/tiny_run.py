"""A whole tiny run on drawn shapes, made once: data, autoencoder, base, experts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest
from ml_collections import ConfigDict

from configs.demo import get_config
from ernie_vilg_jax.preparation.prepare import prepare
from ernie_vilg_jax.training.task import State
from ernie_vilg_jax.training.train import run

MakeConfig = Callable[..., ConfigDict]
SHOWN = {"train.validate_every": 8, "train.preview_every": 8}
"""For runs whose validation and previews are checked."""


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shapes")
    prepare(get_config("smoke"), path)
    return path


@pytest.fixture(scope="session")
def make_config(data: Path) -> MakeConfig:
    def make(target: str, **changes: Any) -> ConfigDict:
        config = get_config(f"{target},smoke")
        config.data.path = str(data)
        # Each is a program to compile, and most tests check neither.
        config.train.validate_every = config.train.preview_every = 0
        config.update_from_flattened_dict(changes)
        return config

    return make


@pytest.fixture(scope="session")
def whole_run(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working directory in which all three phases are finished."""
    workdir = tmp_path_factory.mktemp("run")
    for target in ("autoencoder", "base", "experts"):
        train(make_config(target, **SHOWN), workdir)
    return workdir


def train(config: ConfigDict, workdir: Path, **options: Any) -> State:
    """`run` on one device: compiling for the eight fake ones takes several times as long."""
    return run(config, workdir, jax.devices()[:1], **options)
