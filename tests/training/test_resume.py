"""Resuming a run: another setting, tokenizer or data is named; a damaged checkpoint is never skipped."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from configs.demo import get_config
from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.data.tokenizers import load_tokenizer, train_sentencepiece
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.prepare import prepare
from ernie_vilg_jax.training import resume
from tests.tiny_run import MakeConfig, train

pytestmark = pytest.mark.slow
MORE = {"phases.base.steps": 9, "train.preview_every": 0, "train.validate_every": 0}


@pytest.fixture
def workdir(whole_run: Path, tmp_path: Path) -> Path:
    """A finished phase `base`, to resume."""
    shutil.copytree(whole_run / "base", tmp_path / "run" / "base")
    return tmp_path / "run"


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"seed": 3}, r"seed \(0 in the checkpoint, 3 now\)"),
    ({"data.language": "zh"}, r"data.language \('both' in the checkpoint, 'zh' now\)"),
    ({"knowledge.enabled": True}, r"knowledge.enabled \(False in the checkpoint, True now\)"),
    ({"optimizer.b2": 0.9}, r"optimizer.b2 \(0.999 in the checkpoint, 0.9 now\)"),
    ({"phases.base.learning_rate": 0.5}, r"phases.base.learning_rate \(0.001 in the checkpoint, 0.5 now\)"),
    ({"phases.base.batch_size": 16}, r"phases.base.batch_size \(8 in the checkpoint, 16 now\)"),
    ({"train.caption_dropout": 0.5, "seed": 1}, r"seed \(0 .* 1 now\); train.caption_dropout \(0.1 .* 0.5 now\)"),
]


@pytest.mark.parametrize(("changes", "told"), CHANGES)
def test_fields_that_affect_later_steps_are_compared(
    changes: dict[str, Any], told: str, workdir: Path, make_config: MakeConfig
) -> None:
    fields = ",".join(sorted(changes))
    with pytest.raises(UserError, match=rf"other settings: {told}\. .*--allow_changes={fields}$"):
        train(make_config("base", **MORE, **changes), workdir)
    assert not (workdir / "base/checkpoints/9").exists()


@pytest.mark.proofs
def test_other_fields_may_change(workdir: Path, make_config: MakeConfig) -> None:
    """Knowledge is off in this run, so its weights have no effect."""
    changes = {"phases.base.steps": 9, "train.log_every": 1, "knowledge.loss_weight": 0.5, "sample.steps": 7}
    assert int(train(make_config("base", **{**MORE, **changes}), workdir)["step"]) == 9


@pytest.mark.proofs
def test_allowed_changes_go_on_and_are_recorded(
    workdir: Path, make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config("base", **MORE, **{"seed": 3, "optimizer.b2": 0.9})
    with caplog.at_level(logging.WARNING, "absl"):
        train(config, workdir, allow_changes=["seed", "optimizer"])
    assert "from step 8 on: seed (0 in the checkpoint, 3 now)" in caplog.text
    first = {"step": 8, "fields": {"optimizer.b2": [0.999, 0.9], "seed": [0, 3]}}
    path = epath.Path(workdir / "base/checkpoints/9")
    assert checkpointing.read_metadata(path)["changes"] == [first]
    config.phases.base.steps, config.seed = 10, 4
    train(config, workdir, allow_changes=["seed"])
    both = checkpointing.read_metadata(epath.Path(workdir / "base/checkpoints/10"))["changes"]
    assert both == [first, {"step": 9, "fields": {"seed": [3, 4]}}]


@pytest.mark.parametrize("name", ["sed", "train.log_every", "phases.experts"])
def test_a_name_that_is_not_compared_is_refused(name: str, workdir: Path, make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=f"--allow_changes={name} names nothing that is compared; there are seed"):
        train(make_config("base", **MORE), workdir, allow_changes=[name])


def test_another_tokenizer_or_other_data(workdir: Path, make_config: MakeConfig, data: Path, tmp_path: Path) -> None:
    """A vocabulary of other captions has other ids for the same words."""
    config = make_config("base", **MORE)
    words = train_sentencepiece(["一只猫", "a red apple"], config.tokenizer.vocab_size, config.tokenizer.max_length)
    path = epath.Path(workdir / "base/checkpoints/8")
    with pytest.raises(UserError, match=r"tokenizer \(another vocabulary, .*--allow_changes=tokenizer$"):
        resume.check(path, config, words, [])
    assert resume.check(path, config, words, ["tokenizer"]) == {"tokenizer": ["as saved", "another"]}
    other = get_config("smoke")
    other.data.sources[0].count, other.tokenizer.path = 60, str(data / "tokenizer")
    prepare(other, tmp_path / "other")
    config = make_config("base", **MORE, **{"data.path": str(tmp_path / "other")})
    config.data.sources = other.data.sources
    with pytest.raises(UserError, match=r"data \(other records than it was trained on\)"):
        train(config, workdir)
    assert int(train(config, workdir, allow_changes=["data"])["step"]) == 9


def test_resume_from_an_earlier_step_sets_the_later_aside(workdir: Path, make_config: MakeConfig) -> None:
    straight = read_all(workdir / "base/checkpoints/8")
    with pytest.raises(UserError, match=r"--resume_from=5: \S+ has no checkpoint of that step; there are 4, 8"):
        train(make_config("base"), workdir, resume_from=5)
    state = train(make_config("base"), workdir, resume_from=4)
    assert int(state["step"]) == 8
    assert sorted(path.name for path in (workdir / "base/checkpoints").iterdir()) == ["4", "8"]
    aside = workdir / "base/set_aside/8.0"
    again = read_all(workdir / "base/checkpoints/8")
    for tree in (again, read_all(aside)):
        jax.tree.map(np.testing.assert_array_equal, tree, straight)


def test_a_damaged_checkpoint_names_the_way_back(workdir: Path, make_config: MakeConfig) -> None:
    newest = workdir / "base/checkpoints/8"
    shutil.rmtree(newest / "expert_00")
    shutil.copytree(workdir / "base/checkpoints/4/expert_00", newest / "expert_00")
    told = r"expert_00 of checkpoint \S+/8 is not what was saved: \d+ of its arrays .*--resume_from=4\)$"
    with pytest.raises(UserError, match=told):
        train(make_config("base", **MORE), workdir)
    assert sorted(path.name for path in (workdir / "base/checkpoints").iterdir()) == ["4", "8"], "nothing is lost"
    assert int(train(make_config("base", **MORE), workdir, resume_from=4)["step"]) == 9


def test_a_run_whose_first_save_was_killed_starts(whole_run: Path, make_config: MakeConfig, tmp_path: Path) -> None:
    """The leftovers of such a save have a name that begins like a step."""
    shutil.copytree(whole_run / "autoencoder", tmp_path / "autoencoder")
    left = tmp_path / "base/checkpoints/4.orbax-checkpoint-tmp-1"
    left.mkdir(parents=True)
    (left / "_CHECKPOINT_METADATA").write_text("{}")
    (tmp_path / "base/checkpoints/7").write_text("a file")
    assert int(train(make_config("base", **{**MORE, "phases.base.steps": 2}), tmp_path)["step"]) == 2


def read_all(path: Path) -> dict[str, Any]:
    """Every array of a checkpoint of `base`, as numpy, without comparing checksums."""
    from orbax.checkpoint import v1 as ocp

    items = {}
    for name in ("train", "text_encoder", "expert_00", "autoencoder"):
        tree = ocp.load(str(path.absolute()), checkpointable_name=name)
        items[name] = jax.tree.map(numbers, tree)
    return items


def numbers(leaf: Any) -> np.ndarray:
    key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if key else leaf)


def test_the_helper_reads_tokenizers_alike(data: Path) -> None:
    tokenizer = load_tokenizer(data / "tokenizer")
    assert checkpointing.same_tokenizer(tokenizer, load_tokenizer(data / "tokenizer"))
    assert json.loads((data / "tokenizer/tokenizer.json").read_text())["kind"] == "sentencepiece"
