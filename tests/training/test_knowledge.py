"""Training with knowledge: off, it equals plain training to the last bit; on, it resumes exactly."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.annotation.annotate import annotate
from ernie_vilg_jax.training.task import State
from tests.tiny_run import MakeConfig, train

pytestmark = pytest.mark.slow

STRONG = {"attention_weight": 1.0, "loss_weight": 3.0}  # so that each part is visible in the loss of tiny models


@pytest.fixture(scope="module")
def annotated(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("knowledge") / "annotated"
    annotate(str(data), str(path))
    return path


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines for name in ("train/loss", "validation/loss") if name in line]


@pytest.fixture
def trained(make_config: MakeConfig, whole_run: Path, tmp_path: Path) -> Any:
    """trained(data, steps=..., again=folder, **knowledge) -> (losses, state, folder) of the base."""

    def run(data: Path, steps: int = 4, again: Path | None = None, **knowledge: Any) -> tuple[list[float], State, Path]:
        workdir = again or tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        if again is None:
            shutil.copytree(whole_run / "autoencoder", workdir / "autoencoder")
        config: ConfigDict = make_config("base", **{"data.path": str(data), "phases.base.steps": steps})
        config.train.preview_every, config.train.checkpoint_every = 0, 2
        config.knowledge.enabled = bool(knowledge)
        config.knowledge.update(knowledge)
        state = train(config, workdir)
        return losses(workdir / "base"), state, workdir

    return run


def test_off_it_is_plain_training_to_the_last_bit(trained: Any, data: Path, annotated: Path) -> None:
    plain, plain_state, _ = trained(data)
    off, off_state, _ = trained(annotated)
    assert plain == off
    for a, b in zip(*(jax.tree.leaves(s["experts"]["params"]) for s in (plain_state, off_state)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_with_knowledge_4_steps_are_2_and_restore_and_2(trained: Any, annotated: Path) -> None:
    straight, at_once, _ = trained(annotated, **STRONG)
    assert straight != trained(annotated)[0]
    _, _, folder = trained(annotated, steps=2, **STRONG)
    _, resumed, _ = trained(annotated, again=folder, **STRONG)
    assert losses(folder / "base")[-2:] == straight[-2:]
    for a, b in zip(*(jax.tree.leaves(s["experts"]["params"]) for s in (at_once, resumed)), strict=True):
        np.testing.assert_array_equal(a, b)
