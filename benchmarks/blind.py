"""Answers of people to blind sheets: a number and letters on each line."""

import csv
from collections.abc import Iterable
from pathlib import Path

from absl import app

from ernie_vilg_jax.evaluation.study.statistics import wilson
from ernie_vilg_jax.preparation.sources.composed.vocabulary import LOOKS


def read(file: Path) -> list[str]:
    """The letters of each number, in order."""
    with file.open(encoding="utf-8-sig") as lines:
        rows = {int(row[0]): row[1].strip().upper() for row in csv.reader(lines) if row and row[0].isdigit()}
    if sorted(rows) != list(range(1, len(rows) + 1)):
        raise app.UsageError(f"{file}: the numbers must run from 1 to {len(rows)}")
    return [rows[number] for number in sorted(rows)]


def tell(who: str, found: list[bool]) -> None:
    share = wilson(sum(found) / len(found), len(found), 1.96)
    print(f"{who}: {sum(found)} of {len(found)} right, {100 * share.low:.0f} to {100 * share.high:.0f}%")


def look_of(prompt: str) -> str:
    """The look that a prompt ends with."""
    (found,) = [
        key for key, look in LOOKS.items() if prompt.endswith((f", {look.en_styles[0]}", f"，{look.zh_styles[0]}"))
    ]
    return found


def letter(names: Iterable[str], name: str) -> str:
    """The letter of one of the names on the sheets."""
    return chr(ord("A") + list(names).index(name))
