"""Training with knowledge: off, it equals plain training to the last bit; on, it resumes exactly."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from etils import epath
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing
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
def trained(make_config: MakeConfig, whole_run: Path, annotated: Path, tmp_path: Path) -> Any:
    """trained(**knowledge) -> (losses, state) of four steps of the base, or of those that are left of them."""
    shutil.copytree(whole_run / "autoencoder", tmp_path / "autoencoder")

    def run(**knowledge: Any) -> tuple[list[float], State]:
        config: ConfigDict = make_config("base", **{"data.path": str(annotated), "phases.base.steps": 4})
        config.train.checkpoint_every = 2
        config.knowledge.enabled = bool(knowledge)
        config.knowledge.update(knowledge)
        state = train(config, tmp_path)
        return losses(tmp_path / "base"), state

    return run


@pytest.mark.proofs
def test_off_it_is_plain_training_to_the_last_bit(trained: Any, whole_run: Path) -> None:
    off, state = trained()
    assert off == losses(whole_run / "base")[:2], "of steps 2 and 4"
    plain = checkpointing.read_whole(epath.Path(whole_run / "base/checkpoints/4"), "expert_00")["params"]
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b), state["experts"]["params"], plain)


@pytest.mark.hosts
def test_with_knowledge_4_steps_are_2_and_restore_and_2(trained: Any, whole_run: Path, tmp_path: Path) -> None:
    straight, at_once = trained(**STRONG)
    assert straight != losses(whole_run / "base")[:2]
    shutil.rmtree(tmp_path / "base/checkpoints/4")
    assert (tmp_path / "base/checkpoints/2").is_dir()
    both, resumed = trained(**STRONG)
    assert both == [*straight, straight[-1]], "steps 3 and 4 again"
    for part in ("experts", "text_encoder"):
        jax.tree.map(np.testing.assert_array_equal, at_once[part], resumed[part])
