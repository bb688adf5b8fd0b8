"""Blind sheets: people judge numbered images without their prompts, and their answers are compared with the checker's.

`write_sheets` numbers images in a seeded shuffle and puts the key in a file of its own. People write what they see into
a copy of answers.csv, and fix it (commit it) before anybody opens the key. `compare` then judges both by the facts of
the prompts.

A line of the answers: number, things, relations. `things` names all that is recognisable, as a prompt would:
"red circle; 2 blue squares; ?" with ? for each unrecognisable thing. `relations` is a prompt's relation, or empty:
"red circle to the left of blue square".
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.evaluation.binding.facts import KINDS, Fact
from ernie_vilg_jax.evaluation.binding.grammar import facts_of
from ernie_vilg_jax.evaluation.binding.judging import Judgement
from ernie_vilg_jax.evaluation.binding.nouns import Noun
from ernie_vilg_jax.evaluation.binding.sentences import INVERSE
from ernie_vilg_jax.grid import labelled_grid, save_png
from ernie_vilg_jax.paths import write_atomically

PER_SHEET = 20
COLUMNS = ("things", "relations")


def write_sheets(
    images: Sequence[np.ndarray],
    prompts: Sequence[str],
    seed: int,
    folder: Path,
    key: Path,
    columns: Sequence[str] = COLUMNS,
) -> None:
    """Writes sheet_NN.png with numbered images, and answers.csv to fill in, to `folder`; the order to `key`.

    Args:
      images: uint8 [H, W, 3].
      prompts: theirs.
      seed: of the shuffle.
      folder: for the raters.
      key: JSON file with seed, order and prompts, outside `folder`.
      columns: what to fill in for each number.
    """
    if key.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"the key {key} must not lie in the raters' folder {folder}: name another place")
    order = np.random.default_rng(seed).permutation(len(images))
    with file_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        key.parent.mkdir(parents=True, exist_ok=True)
    shown = [Image.fromarray(images[place]) for place in order]
    for start in range(0, len(shown), PER_SHEET):
        part = shown[start : start + PER_SHEET]
        labels = [str(start + k + 1) for k in range(len(part))]
        save_png(labelled_grid(part, labels, columns=5), folder / f"sheet_{start // PER_SHEET + 1:02d}.png")
    text = io.StringIO()
    csv.writer(text).writerows(
        [("number", *columns), *((number + 1, *[""] * len(columns)) for number in range(len(shown)))]
    )
    write_atomically(folder / "answers.csv", text.getvalue().encode())
    content = {"seed": seed, "order": order.tolist(), "prompts": [prompts[place] for place in order]}
    write_atomically(key, json.dumps(content, ensure_ascii=False, indent=1).encode())


class Answer(NamedTuple):
    """What a rater saw: noun -> how many; (colour, noun) -> how many; relations as facts."""

    nouns: Mapping[str, int]
    coloured: Mapping[tuple[str, str], int]
    relations: tuple[Fact, ...]

    def says(self, fact: Fact) -> bool:
        """Whether a fact holds by this answer."""
        if fact.kind == "object":
            return self.nouns.get(fact.noun, 0) >= 1
        if fact.kind == "colour":
            return self.coloured.get((fact.colour, fact.noun), 0) >= max(1, fact.number)
        if fact.kind == "count":
            return self.nouns.get(fact.noun, 0) == fact.number
        return any(_same_relation(fact, seen) for seen in self.relations)


def _same_relation(asked: Fact, seen: Fact) -> bool:
    turned = Fact("relation", seen.other, seen.other_colour, 0, INVERSE[seen.relation], seen.noun, seen.colour)
    for one in (seen, turned):
        if (one.noun, one.relation, one.other) != (asked.noun, asked.relation, asked.other):
            continue
        if asked.colour in ("", one.colour) and asked.other_colour in ("", one.other_colour):
            return True
    return False


def read_answers(file: Path, nouns: Sequence[Noun]) -> list[Answer]:
    """The filled-in answers.csv, by number. Raises UserError, with the line, for what is not understood."""
    with file_errors(file):
        rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig"))))
    answers: dict[int, Answer] = {}
    for line, row in enumerate(rows, start=2):
        try:
            if not (row.get("number") or "").isdigit() or int(row["number"]) in answers:
                raise UserError("needs a number of its own")
            answers[int(row["number"])] = _answer(row.get("things") or "", row.get("relations") or "", nouns)
        except UserError as error:
            raise UserError(f"{file}, line {line}: {error}") from error
    if sorted(answers) != list(range(1, len(answers) + 1)):
        raise UserError(f"{file}: the numbers must run from 1 to {len(answers)}; fill in all lines")
    return [answers[number] for number in sorted(answers)]


def _answer(things: str, relations: str, nouns: Sequence[Noun]) -> Answer:
    seen: dict[str, int] = {}
    coloured: dict[tuple[str, str], int] = {}
    for text in filter(None, map(str.strip, things.split(";"))):
        if text == "?":
            continue
        facts = facts_of(text, nouns)
        number = next((fact.number for fact in facts if fact.kind == "count"), 1)
        seen[facts[0].noun] = seen.get(facts[0].noun, 0) + number
        for fact in facts:
            if fact.kind == "colour":
                pair = (fact.colour, fact.noun)
                coloured[pair] = coloured.get(pair, 0) + number
    related = []
    for text in filter(None, map(str.strip, relations.split(";"))):
        facts = facts_of(text, nouns)
        found = [fact for fact in facts if fact.kind == "relation"]
        if not found:
            raise UserError(f"{text!r} is not a relation such as 'red circle above blue square'")
        related += found
    return Answer(seen, coloured, tuple(related))


class Agreement(NamedTuple):
    """Of one kind of fact ("all" = an image's facts together): how many were judged, and how the two answered."""

    count: int
    agree: int
    checker_true: int
    rater_true: int


def compare(
    answers: Sequence[Answer], judgements: Sequence[Judgement], facts: Sequence[Sequence[Fact]]
) -> dict[str, Agreement]:
    """A rater against the checker, by kind of fact, on images in the order of the sheets."""
    pairs: dict[str, list[tuple[bool, bool]]] = {}
    for answer, judged, several in zip(answers, judgements, facts, strict=True):
        for verdict in judged.verdicts:
            pairs.setdefault(verdict.fact.kind, []).append((verdict.true, answer.says(verdict.fact)))
        pairs.setdefault("all", []).append((judged.all_right, all(map(answer.says, several))))
    return {
        kind: Agreement(
            len(pairs[kind]),
            sum(a == b for a, b in pairs[kind]),
            sum(a for a, _ in pairs[kind]),
            sum(b for _, b in pairs[kind]),
        )
        for kind in (*KINDS, "all")
        if kind in pairs
    }
