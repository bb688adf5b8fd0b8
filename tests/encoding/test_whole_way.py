"""From pictures of three shapes to a trained bank of experts, with latents that were encoded once."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from absl import logging as absl_logging
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.encoding.encode import encode
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.training import loop
from tests.encoding.pictures import SIZES, make_config
from tests.tiny_run import train

pytestmark = pytest.mark.hosts


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    logger = absl_logging.get_absl_logger()
    logger.addHandler(caplog.handler)
    before = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.INFO)
    yield lambda: [record.getMessage() for record in caplog.records]
    absl_logging.set_verbosity(before)
    logger.removeHandler(caplog.handler)


def phase(name: str, path: Path, **changes: Any) -> ConfigDict:
    config = make_config(path, **changes)
    config.phase = name
    config.train.validate_every = config.train.preview_every = 6
    config.train.checkpoint_every = config.train.log_every = 1
    for section in config.phases.values():
        section.steps = 6
    return config


def parameters(workdir: Path, name: str) -> Any:
    path = checkpointing.find(workdir / name)
    return {item: checkpointing.read_whole(path, item) for item in ("text_encoder", "expert_00", "train")}


def test_three_sizes_from_pictures_to_experts(
    images: Path,
    tmp_path: Path,
    lines: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workdir, other = tmp_path / "run", tmp_path / "unbroken"
    train(phase("autoencoder", images), workdir)
    sized = {"data.sizes": SIZES, "data.crop": "random", "data.smallest_side": 16}
    data = tmp_path / "latents"
    encode(phase("base", images, **sized), str(images), str(data), workdir, crops=2)

    (other / "autoencoder").parent.mkdir()
    (other / "autoencoder").symlink_to(workdir / "autoencoder")
    config = phase("base", data, **sized)
    train(config, other)
    shapes = {found[1] for line in lines() if (found := re.search(r"the first batch of latents of (\w+), for", line))}
    assert len(shapes) == len(SIZES) - 1  # the first is compiled anyway

    # Stopped in between, and continued.
    steps, checked = [], loop._checked

    def stops(step: int, *args: Any) -> Any:
        steps.append(step)
        if step == 3:
            raise KeyboardInterrupt
        return checked(step, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_checked", stops)
        train(config, workdir)
    train(config, workdir)
    jax.tree.map(np.testing.assert_array_equal, parameters(workdir, "base"), parameters(other, "base"))

    train(phase("experts", data, **sized), workdir)
    assert np.isfinite(jax.tree.leaves(parameters(workdir, "experts")["expert_00"]["ema"])[0]).all()

    # The autoencoder of another run is noticed, at a start and at a resumption.
    stranger = tmp_path / "stranger"
    train(phase("autoencoder", images, seed=9), stranger)
    with pytest.raises(UserError, match="holds latents of another autoencoder"):
        train(config, stranger)

    # Another size begins where this one ended.
    larger = phase("base", images, **{"model.image_size": 24, "phases.base.init_from": str(workdir / "base")})
    train(larger, tmp_path / "larger")
