"""Folders that go on, and what came of them."""

import json
import logging
from pathlib import Path

import pytest
from etils import epath
from ml_collections import ConfigDict

from configs.demo import get_config
from ernie_vilg_jax.data.tokenizers import train_sentencepiece
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.finetuning.judge import NOTE, read_note
from ernie_vilg_jax.finetuning.origin import Origin
from ernie_vilg_jax.finetuning.run import SETTINGS, outcome, prepare_data, same_settings
from ernie_vilg_jax.finetuning.settings import Settings
from tests.random_model import PROMPTS
from tests.small_data import picture


def test_a_folder_is_of_the_same_settings_each_time(tmp_path: Path) -> None:
    folder = tmp_path / "a/mine"
    same_settings(folder, {"--rank": 4, "--targets": ("attn",)})
    same_settings(folder, {"content of --images": "abc"})
    same_settings(folder, {"--rank": 4, "--targets": ("attn",)})
    with pytest.raises(UserError, match=r"was begun with another --rank \(4, now 8\): give that, or another --output"):
        same_settings(folder, {"--rank": 8, "--targets": ("attn",)})
    with pytest.raises(UserError, match="another content of --images"):
        same_settings(folder, {"content of --images": "abd"})
    assert json.loads((folder / SETTINGS).read_text())["--rank"] == 4


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_damaged_notes_are_told_and_nothing_begins_anew(tmp_path: Path, content: str) -> None:
    for name, read in ((SETTINGS, lambda: same_settings(tmp_path, {"--rank": 8})), (NOTE, lambda: read_note(tmp_path))):
        file = tmp_path / name
        file.write_text(content)
        with pytest.raises(
            UserError, match=rf"{name} is (damaged|not what `finetune` writes).*: take another --output"
        ):
            read()
        assert file.read_text() == content
        file.unlink()


@pytest.mark.parametrize("content", ['{"x": {}}', '{"0": {"seen": "y"}}', '{"0": 1}'])
def test_a_note_of_something_else(tmp_path: Path, content: str) -> None:
    (tmp_path / NOTE).write_text(content)
    with pytest.raises(UserError, match="is not what `finetune` writes"):
        read_note(tmp_path)


def judged(folder: Path, *scores: float) -> None:
    values = {"seen": 0.5, "held_out": 0.5}
    seen = {0: values} | {
        10 * k: {**values, "gain": 0.3, "kept": 0.97, "score": one} for k, one in enumerate(scores, 1)
    }
    (folder / NOTE).write_text(json.dumps(seen))


def test_the_best_is_told_with_how_to_use_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    judged(tmp_path, 0.1, 0.3, 0.2)
    with caplog.at_level(logging.INFO, "absl"):
        found = outcome(tmp_path)
    assert found.best == 20 and found.scores["score"] == 0.3


def test_nothing_is_recommended_if_nothing_got_better(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    judged(tmp_path, -0.2, 0.0)
    with caplog.at_level(logging.WARNING):
        found = outcome(tmp_path)
    assert found.best == 0 and found.scores == {"seen": 0.5, "held_out": 0.5}
    assert "none of 2 checkpoints predicts your images better and keeps 95%" in caplog.messages[0]


def test_some_image_has_to_be_trained_on(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for colour in ("red", "blue"):
        (tmp_path / f"own/{colour}.png").write_bytes(picture(colour))
        (tmp_path / f"own/{colour}.txt").write_text(f"a {colour} wall\n", encoding="utf-8")
    config = get_config("smoke")
    tokenizer = train_sentencepiece(PROMPTS, config.tokenizer.vocab_size, config.tokenizer.max_length)
    origin = Origin("demo", epath.Path("/model"), config, "experts", "abc", tokenizer, None)
    old = ConfigDict({"name": "scenes", "count": 40, "objects": "shapes", "simple": True})
    with pytest.raises(UserError, match=r"^--holdout=0\.7 holds all of your images out: lower it"):
        prepare_data(origin, tmp_path / "own", tmp_path / "data", Settings(holdout=0.7), old)
