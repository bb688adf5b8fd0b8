"""Evaluation while training: the same scores as of the saved checkpoint, on any mesh, and the best is kept."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation import in_training, metrics, scorers
from ernie_vilg_jax.evaluation.on_mesh import OnMesh
from ernie_vilg_jax.sharding.mesh import make_mesh
from tests.tiny_run import MakeConfig, train


class Shades:
    """A feature network without weights: the image at 4 x 4 pixels. Its interface is that of `FeatureNetwork`."""

    name, fingerprint, size, batch_size = "efficientnet", "1", 4, 8

    def __init__(self, **_: Any) -> None:
        self.params = {"scale": np.float32(2.0)}
        self.forward = jax.jit(lambda params, pixels: params["scale"] * pixels.reshape(len(pixels), -1))

    def prepare(self, image: np.ndarray) -> np.ndarray:
        step = len(image) // 4
        return np.asarray(image[::step, ::step][:4, :4], np.float32) / 255

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return np.asarray(self.forward(self.params, np.stack([self.prepare(image) for image in images])))


@pytest.fixture
def shades(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorers, "network", lambda name, paths: Shades())


def test_features_on_a_mesh_equal_those_of_one_device() -> None:
    images = list(np.random.default_rng(0).integers(0, 256, (21, 8, 8, 3), np.uint8))
    mesh = make_mesh({"data": 2, "fsdp": 2, "expert": 2, "tensor": 1})
    with jax.set_mesh(mesh):
        np.testing.assert_allclose(OnMesh(Shades(), mesh)(images), Shades()(images), rtol=1e-6)  # pyright: ignore


@pytest.mark.slow
@pytest.mark.usefixtures("shades")
@pytest.mark.proofs
def test_a_run_is_scored_on_schedule_and_its_best_checkpoint_kept(
    make_config: MakeConfig, whole_run: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "evaluation.every": 2,
        "evaluation.metrics": ("frechet_efficientnet",),
        "evaluation.steps": 3,
        "evaluation.num_images": 2,
        "train.keep_best": "frechet_efficientnet",
        "train.keep_checkpoints": 1,
        "train.checkpoint_every": 1000,
        "phases.base.steps": 6,
        "phases.base.autoencoder_from": str(whole_run),
    }
    train(make_config("base", **settings), tmp_path, evaluator=in_training.Evaluator)
    rows = [json.loads(line) for line in (tmp_path / "base" / "metrics.jsonl").read_text().splitlines()]
    scores = {
        row["step"]: row["evaluation/frechet_efficientnet"] for row in rows if "evaluation/frechet_efficientnet" in row
    }
    assert sorted(scores) == [2, 4, 6]
    best = checkpointing.find(tmp_path / "best")
    assert int(best.name) == min(scores, key=lambda step: scores[step])


def test_metrics_and_files_are_checked_at_the_start(make_config: MakeConfig, tmp_path: Path) -> None:
    for changes, told in (
        ({"evaluation.metrics": ("fidd",)}, "--config.evaluation.metrics: 'fidd' is not known"),
        ({"evaluation.metrics": ("alignment",), "evaluation.num_images": 0}, "--config.evaluation.num_images=0"),
        ({"evaluation.metrics": ("alignment",), "evaluation.steps": 0}, "--config.evaluation.steps=0"),
        ({"evaluation.metrics": ("alignment",), "train.preview_prompts": ()}, "there are no prompts to evaluate"),
        ({"evaluation.weights": ("clip",)}, "--config.evaluation.weights=clip must be NAME=PATH"),
        ({"evaluation.metrics": ("fid",)}, "needs the file or folder of its weights"),
        ({"evaluation.metrics": ("clip_score",), "evaluation.weights": ("clip=/none",)}, "/none"),
    ):
        with pytest.raises(UserError, match=told):
            in_training.Evaluator(make_config("base", **changes), None, None)  # type: ignore[arg-type]


def test_distances_are_better_if_lower() -> None:
    assert metrics.higher_is_better(["fid", "kid", "clip_score", "neighbourhoods"]) == {
        *("clip_score", "precision", "recall", "density", "coverage")
    }
