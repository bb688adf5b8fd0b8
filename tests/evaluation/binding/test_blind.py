"""Blind sheets, and answers against verdicts."""

import csv
import json

import numpy as np
import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.binding.blind import Agreement, compare, read_answers, write_sheets
from ernie_vilg_jax.evaluation.binding.facts import Fact
from ernie_vilg_jax.evaluation.binding.grammar import facts_of
from ernie_vilg_jax.evaluation.binding.judging import Judgement, Verdict
from ernie_vilg_jax.evaluation.binding.nouns import EVERYDAY_NOUNS, SHAPE_NOUNS

NOUNS = (*SHAPE_NOUNS, *EVERYDAY_NOUNS)


def test_sheets_show_numbers_and_the_key_tells_the_order(tmp_path):
    images = [np.full((16, 16, 3), value, np.uint8) for value in range(0, 250, 10)]
    prompts = [f"prompt of {value}" for value in range(len(images))]
    folder, key = tmp_path / "raters", tmp_path / "key" / "key.json"
    write_sheets(images, prompts, 3, folder, key)
    assert sorted(file.name for file in folder.iterdir()) == ["answers.csv", "sheet_01.png", "sheet_02.png"]
    found = json.loads(key.read_text())
    assert sorted(found["order"]) == list(range(len(images))) != found["order"]
    assert found["prompts"] == [prompts[place] for place in found["order"]]
    for file in folder.iterdir():
        assert b"prompt of" not in file.read_bytes()
    rows = list(csv.reader((folder / "answers.csv").open()))
    assert rows[0] == ["number", "things", "relations"] and len(rows) == 26
    write_sheets(images, prompts, 3, tmp_path / "again", tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == found
    with pytest.raises(UserError, match="must not lie in the raters' folder"):
        write_sheets(images, prompts, 3, folder, folder / "key.json")


def answers(tmp_path, *lines):
    file = tmp_path / "answers.csv"
    file.write_text("\n".join(["number,things,relations", *lines]), encoding="utf-8")
    return read_answers(file, NOUNS)


@pytest.mark.parametrize(
    ("prompt", "truth"),
    [
        ("a red circle", [True, True]),
        ("a green circle", [True, False]),
        ("two blue squares", [True, True, True]),
        ("three blue squares", [True, False, False]),
        ("a cat", [False]),
        ("a circle to the left of a square", [True, True, True]),
        ("a square to the right of a circle", [True, True, True]),
        ("a circle above a square", [True, True, False]),
    ],
)
def test_an_answer_says_which_facts_hold(tmp_path, prompt, truth):
    (answer,) = answers(tmp_path, "1,red circle; 2 blue squares; ?,red circle to the left of blue square")
    assert [answer.says(fact) for fact in facts_of(prompt)] == truth


def test_agreement_counts_each_kind(tmp_path):
    found = answers(tmp_path, "2,?,", "1,红色的圆形,")  # in any order
    facts = [facts_of("a red circle"), facts_of("a red circle")]
    judgements = [
        Judgement(tuple(map(Verdict, several, chances)), ())
        for several, chances in zip(facts, ([0.9, 0.2], [0.6, 0.1]), strict=True)
    ]
    assert compare(found, judgements, facts) == {
        "object": Agreement(2, 1, 2, 1),
        "colour": Agreement(2, 1, 0, 1),
        "all": Agreement(2, 1, 0, 1),
    }


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,a glorp,"], "line 2: prompt 'a glorp' is not understood"),
        (["1,circle,", "1,circle,"], "line 3: needs a number of its own"),
        (["x,circle,"], "line 2: needs a number of its own"),
        (["1,circle,", "3,circle,"], "numbers must run from 1 to 2"),
        (["1,circle; square,circle and square"], "not a relation"),
    ],
)
def test_answers_that_are_not_understood_name_the_line(tmp_path, lines, message):
    with pytest.raises(UserError, match=message):
        answers(tmp_path, *lines)


def test_a_relation_between_equal_things_needs_their_colours(tmp_path):
    (answer,) = answers(tmp_path, "1,red circle; blue circle,red circle above blue circle")
    asked = Fact("relation", "circle", "red", 0, "above", "circle", "blue")
    assert answer.says(asked)
    assert not answer.says(Fact("relation", "circle", "blue", 0, "above", "circle", "red"))
