"""Known answers become known tables."""

import csv
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.study import report
from ernie_vilg_jax.evaluation.study.answers import Answer


def answer(rater=0, item="0", choice="left", **values) -> Answer:
    base = Answer(
        rater,
        0,
        "study",
        item,
        "animals",
        "en",
        "alignment",
        "ours",
        "theirs",
        choice,
        "",
        1000,
        0,
        "2026-01-01T00:00:00Z",
    )
    return base._replace(**values)


MODELS = ("theirs", "ours", "third")


def test_shares_are_of_the_model_whichever_its_side():
    """Of ten votes on ten prompts, six are for theirs, three of them with it on the left; one is "same"."""
    found = [answer(item=str(n), choice="right") for n in range(3)]
    found += [answer(item=str(n), choice="left", left="theirs", right="ours") for n in range(3, 6)]
    found += [answer(item="6", choice="same"), *(answer(item=str(n), choice="left") for n in range(7, 10))]
    (row,) = report.tables(found, MODELS).preferences
    assert (row.first, row.second, row.votes, row.prompts, row.raters) == ("theirs", "ours", 10, 10, 1)
    assert (row.first_share, row.same_share, row.second_share, row.preference) == pytest.approx((0.6, 0.1, 0.3, 0.65))
    assert row.low < 0.65 < row.high and (row.wide_low, row.wide_high) == (0, 1), "one rater says nothing of others"


def test_groups_are_categories_and_languages_and_pairs():
    found = [
        answer(rater, item, "left", category=category, language=language, aspect=aspect, right=other)
        for rater, (item, category), language, aspect, other in product(
            range(2), [("0", "animals"), ("1", "cars")], ["en", "zh"], ["alignment", "fidelity"], ["theirs", "third"]
        )
    ]
    rows = report.tables(found, MODELS).preferences
    groups = ["all", "language: en", "language: zh", "category: animals", "category: cars"]
    pairs = [("theirs", "ours"), ("ours", "third")]
    assert {(one.group, one.aspect, (one.first, one.second)) for one in rows} == set(
        product(groups, ["alignment", "fidelity"], pairs)
    )
    assert all(one.preference == (one.first == "ours") for one in rows)


def test_strengths_of_three_models():
    """Counts that a Bradley-Terry model with odds 1 : 2 : 4 has exactly."""
    found = []
    for (first, second), (wins, losses) in {
        ("theirs", "ours"): (20, 40), ("theirs", "third"): (12, 48), ("ours", "third"): (20, 40),
    }.items():  # fmt: skip
        found += [answer(item=f"{n}", left=first, right=second, choice="left" if n < wins else "right")
                  for n in range(wins + losses)]  # fmt: skip
    rows = report.tables(found, MODELS).strengths
    assert [one.model for one in rows] == list(MODELS)
    assert [one.strength for one in rows] == pytest.approx([0, np.log(2), np.log(4)], abs=1e-5)
    assert rows[2].against_first == pytest.approx(0.8, abs=1e-5)


def checks(rater: int, right: int, wrong: int) -> list[Answer]:
    choices = ["left"] * right + ["right"] * wrong
    return [answer(rater, choice=choice, kind="check", expected="left") for choice in choices]


def test_raters_who_fail_checks_are_left_out_and_named():
    found = [
        answer(0),
        answer(1, choice="right"),
        answer(2, choice="right"),
        answer(3, choice="right", kind="practice"),
    ]
    found += [*checks(0, 3, 1), *checks(1, 2, 2), *checks(2, 0, 2)]  # two checks are too few to judge by
    made = report.tables(found, MODELS)
    assert made.preferences[0].votes == 2 and made.facts["raters left out, who failed checks of attention"] == "1"
    assert made.facts["checks of attention passed"] == "5 of 10"


def test_alpha_does_not_depend_on_sides():
    found = [answer(0, item, choice) for item, choice in zip("0123", ["left", "right", "left", "right"], strict=True)]
    found += [
        answer(1, item, choice, left="theirs", right="ours")
        for item, choice in zip("0123", ["right", "left", "right", "left"], strict=True)
    ]
    (row,) = report.tables(found, MODELS).agreement
    assert row.nominal == row.ordinal == 1


def test_files(tmp_path: Path):
    found = [answer(rater, str(n), ("left", "same", "right")[(n + rater) % 3]) for n in range(9) for rater in range(3)]
    found = [one._replace(category="<b>x</b>") if one.item == "3" else one for one in found]
    report.write(report.tables(found, MODELS), "Ours & theirs", tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Ours &amp; theirs" in page and "&lt;b&gt;x" in page and "<b>x" not in page and "<script" not in page
    with (tmp_path / "preferences.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["group"] == "all" and float(rows[0]["preference"]) == 0.5
    assert {"strengths.csv", "agreement.csv"} <= {file.name for file in tmp_path.iterdir()}


def test_nothing_to_report_is_one_sentence():
    with pytest.raises(UserError, match="no rater has judged anything yet"):
        report.tables([answer(kind="practice")], MODELS)
    with pytest.raises(UserError, match="raters who failed checks of attention are left out: 1"):
        report.tables([answer(), *checks(0, 0, 3)], MODELS)
