import json

import numpy as np
import pytest

from benchmarks.ablations.cells import CELLS, SEEDS, chosen
from benchmarks.ablations.intervals import interval
from benchmarks.ablations.report import METRICS, claims, difference, read_scores, tables, verdict
from configs.small_ablation import get_config


@pytest.fixture
def scores():
    """Of `none` and `both`: both is better by 10 points, give or take one."""
    found = {}
    for seed, noise in zip(SEEDS, (0.0, 0.01, -0.01, 0.01, -0.01), strict=True):
        for cell, value in (("none", 0.4), ("both", 0.5 + noise)):
            found[cell, seed] = {"3": dict.fromkeys(METRICS, value + 0.05 * seed)}
    return found


def test_an_interval_is_that_of_scipy():
    from scipy import stats

    values = [0.3, 0.35, 0.5, 0.41, 0.2]
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert interval(values) == pytest.approx((np.mean(values), low, high))


def test_seeds_are_compared_pair_by_pair(scores):
    """The spread over seeds is 20 points, that of the differences one."""
    gain = difference(scores, "both", "none")
    assert gain is not None
    assert gain.mean == pytest.approx(0.1)
    assert 0 < gain.high - gain.low < 0.03
    assert verdict(gain) == "reproduced"
    assert verdict(difference(scores, "none", "both")) == "not reproduced: it hurts"
    assert verdict(difference(scores, "visual", "none")) == "not measured"
    assert verdict(interval([0.1, -0.1, 0.05])) == "undecided"


def test_tables_and_claims_say_what_was_measured(scores):
    text = tables(scores)
    assert "| both | 5 |" in text
    assert "| textual | 0 |" in text
    assert "| both | none | 10.0 (" in text
    assert "| 4 experts | trained on |  |" in text
    assert "Both together help. **Reproduced.** Gain 10.0" in claims(scores)
    assert "Textual knowledge helps. **Not measured.**" in claims(scores)


def test_scores_are_read_from_where_evaluate_writes_them(tmp_path):
    folder = tmp_path / "runs" / "4_experts" / "0" / "scores"
    folder.mkdir(parents=True)
    score = {"metric": "binding", "value": 0.25, "group": ""}
    result = {"setting": {"guidance_scale": 3.0}, "scores": [score, {**score, "group": "en", "value": 1.0}]}
    (folder / "results.json").write_text(json.dumps({"results": [result]}))
    assert read_scores(tmp_path) == {("4 experts", 0): {"3": {"binding": 0.25}}}


def test_cells_have_equal_samples_and_configs_that_exist():
    for cell in CELLS:
        config = get_config(",".join(("experts" if cell.experts else "base", *cell.variants)))
        for field, value in cell.settings:
            section, name = field.split(".")
            assert type(config[section][name])(value) is not None
        assert 400 * 64 % cell.batch_size == 0
        assert not cell.experts or cell.batch_size % cell.experts == 0


def test_each_part_of_knowledge_is_switched_alone():
    textual, visual = get_config("base,textual").knowledge, get_config("base,visual").knowledge
    assert (textual.attention_weight, textual.loss_weight, textual.append_rate) == (0.01, 0.0, 0.0)
    assert (visual.attention_weight, visual.loss_weight, visual.append_rate) == (0.0, 0.1, 1.0)
    assert not get_config("base").knowledge.enabled


def test_main_cells_have_all_seeds_and_exploratory_ones_the_first():
    runs = chosen([], list(SEEDS))
    main = [cell for cell in CELLS if not cell.exploratory]
    assert len(runs) == len(main) * len(SEEDS) + len(CELLS) - len(main)
    assert [cell.name for cell, _ in runs[: len(main)]] == [cell.name for cell in main]
    with pytest.raises(SystemExit, match="--cells=else is not known"):
        chosen(["else"], [0])
