"""Sheets of a fine-tuned model, and what raters told."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import blind_finetuned
from ernie_vilg_jax.errors import UserError

CAPTIONS = ["a quetzal", "a snail", "a sombrero"]


def test_answers_are_counted_for_each_model(tmp_path: Path) -> None:
    images = [np.full((16, 16, 3), 40 * k, np.uint8) for k in range(6)]
    folder, key = tmp_path / "raters", tmp_path / "key.json"
    blind_finetuned.write(images, CAPTIONS, folder, key, 3)
    assert (folder / "things.txt").read_text().splitlines() == CAPTIONS
    found = json.loads(key.read_text())
    rows = list(csv.reader((folder / "answers.csv").open()))
    assert rows[0] == ["number", "thing"]
    # A rater who tells two of the three things after, and takes everything before for a snail.
    for row, prompt, place in zip(rows[1:], found["prompts"], found["order"], strict=True):
        row[1] = ("?" if prompt == "a quetzal" else prompt) if place >= 3 else "a snail"
    file = tmp_path / "answers.csv"
    with file.open("w", newline="") as out:
        csv.writer(out).writerows(rows)
    assert blind_finetuned.told(str(file), str(key)) == {"before": (1, 3), "after": (2, 3)}
    file.write_text(file.read_text().replace("a snail", "a slug", 1))
    with pytest.raises(UserError, match=r"'a slug' for \d is no line of things\.txt, nor \?"):
        blind_finetuned.told(str(file), str(key))
