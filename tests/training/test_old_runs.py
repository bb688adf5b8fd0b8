"""Runs of version 0.1, whose phases had other names, resume; `old/version_0_1.tar.xz` is one, at step 4 of 8.

It was written by that version: `train --config=configs/demo.py:stage1,smoke --config.train.log_every=1`, with the
metrics of all 8 steps and the checkpoint of step 8 removed.
"""

import json
import logging
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from configs.demo import get_config
from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.config import default_config, upgraded, upgraded_override
from ernie_vilg_jax.pipeline import load
from tests.tiny_run import MakeConfig, train

pytestmark = pytest.mark.slow


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with tarfile.open(Path(__file__).parent / "old" / "version_0_1.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path / "version_0_1"


def losses(folder: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}


@pytest.mark.proofs
def test_an_unfinished_run_resumes_in_its_folder(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the losses that version 0.1 itself had from there on."""
    before = losses(old / "run" / "stage1")
    assert max(before) == 8 and checkpointing.find(old / "run").name == "4"
    config = get_config("stage1,smoke")
    assert config.phase == "base"
    config.model.unet.attention_downsamplings = (1,)  # of `smoke` then
    config.data.path, config.train.log_every = str(old / "data"), 1
    config.train.preview_every = config.train.validate_every = 0
    with caplog.at_level(logging.INFO, "absl"):
        train(config, old / "run")
    assert not (old / "run" / "base").exists()
    notes = [record.message for record in caplog.records if record.message.startswith("note: ")]
    assert len(notes) == 1 and "the phase base was called stage1" in notes[0]
    lines = (old / "run" / "stage1" / "metrics.jsonl").read_text().splitlines()
    assert len([line for line in lines if '"train/loss"' in line]) == 8 + 4, "only the missing steps were trained"
    after = losses(old / "run" / "stage1")
    np.testing.assert_allclose([after[step] for step in before], list(before.values()), rtol=1e-5)


def test_its_checkpoint_is_sampled_from(old: Path) -> None:
    pipe = load(old / "run")
    assert pipe.stages.n == 1, "the phase base has one U-Net for all timesteps"
    assert pipe.config.phases.base.steps == 8
    assert len(pipe("红色的圆形", steps=2)) == 1
    metadata = checkpointing.read_metadata(checkpointing.find(old / "run"))
    assert metadata["phase"] == "base" and metadata["format"] == 1


@pytest.mark.proofs
def test_the_committed_demo_is_of_that_format_or_later() -> None:
    pipe = load()
    assert pipe.config.phase in ("base", "experts") and pipe.config.phases.experts.steps > 0


def test_experts_in_a_folder_of_the_old_name(whole_run: Path, make_config: MakeConfig, tmp_path: Path) -> None:
    """If both names exist, the current one counts."""
    for new, name in (("autoencoder", "autoencoder"), ("base", "stage1"), ("experts", "stage2")):
        shutil.copytree(whole_run / new, tmp_path / name)
    assert checkpointing.find(tmp_path).parent.parent.name == "stage2"
    state = train(make_config("experts", **{"phases.experts.steps": 9}), tmp_path)
    assert int(state["step"]) == 9 and not (tmp_path / "experts").exists()
    shutil.copytree(whole_run / "experts", tmp_path / "experts")
    assert checkpointing.phase_folder(epath.Path(tmp_path), "experts").name == "experts"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("stage1.steps", "phases.base.steps"),
        ("stage2.batch_size", "phases.experts.batch_size"),
        ("autoencoder.kl_weight", "phases.autoencoder.kl_weight"),
        ("target", "phase"),
        ("experts.n", "experts.n"),
        ("model.autoencoder.channels", "model.autoencoder.channels"),
    ],
)
def test_every_old_path_is_one_of_today(old: str, new: str) -> None:
    assert upgraded_override(old) == new
    value = default_config()
    for name in new.split("."):
        value = value[name]


@pytest.mark.parametrize(("size", "weight", "crop"), [(64, 0.012288, 256), (1024, 3.145728, 1024)])
def test_the_kl_of_before_was_a_sum(size: int, weight: float, crop: int) -> None:
    values = default_config().to_dict()
    values["model"]["image_size"] = size
    del values["phases"]["autoencoder"]["crop_size"]
    section = upgraded(values)["phases"]["autoencoder"]
    assert section["kl_weight"] == pytest.approx(weight) and section["crop_size"] == crop
    assert upgraded(upgraded(values)) == upgraded(values)
