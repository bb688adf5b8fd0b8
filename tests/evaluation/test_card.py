"""A model card says what was measured, and where it comes from."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from configs.demo import get_config
from ernie_vilg_jax.evaluation import card
from ernie_vilg_jax.evaluation.evaluate import Result, Setting
from ernie_vilg_jax.evaluation.image_sets import Arrays, OfPrompts
from ernie_vilg_jax.evaluation.metrics import Score
from ernie_vilg_jax.pipeline.prompts import Prompt

PROMPTS = (Prompt("a", "a cat", "en", "animals"), Prompt("b", "一只狗", "zh", "animals"))


def written(folder: Path, config: ConfigDict) -> str:
    made = OfPrompts(Arrays(np.zeros((4, 2, 2, 3), np.uint8)), PROMPTS, np.array([0, 0, 1, 1]))
    scores = (Score("binding", 0.5, 0.25, 0.75, 4), Score("binding", 0.25, 0.0, 0.5, 2, "category animals"))
    values = {"binding": np.array([1.0, 1.0, 0.0, np.nan]), "binding_colour": np.array([0.0, 0.0, 0.0, 0.0])}
    result = Result(Setting("", {"guidance_scale": 3.0}, lambda: made), made, scores, values)
    card.write(folder / "card.md", "mine", "python -m x", config, [result], {"options": {"seed": 0, "rerank": None}})
    return (folder / "card.md").read_text()


def test_scores_with_intervals_the_worst_prompts_and_the_command(tmp_path: Path) -> None:
    text = written(tmp_path, get_config())
    assert "# Model card: mine" in text and "python -m x" in text
    assert "| all | 4 | 0.50 (0.25 to 0.75) |" in text
    assert "| animals | 2 | 0.25 (0.00 to 0.50) |" in text
    assert "seed 0, guidance_scale 3.0" in text and "rerank" not in text
    assert "Lowest binding, of 2 prompts: 一只狗 (0.00); a cat (1.00)." in text
    assert "Lowest binding_colour" not in text


def test_data_with_licences_and_sources_that_are_not_known(tmp_path: Path) -> None:
    config = get_config()
    assert "| Apache-2.0 | the authors of ernie_vilg_jax |" in written(tmp_path, config)
    with config.unlocked():
        config.data.sources = (ConfigDict({"name": "gone"}),)
    assert "| source gone | not known here" in written(tmp_path, config)
