"""What has been answered, as rows; as CSV and JSON lines."""

import csv
import io
import json
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sql

from ernie_vilg_jax.evaluation.study.database import ANSWERS, ITEMS, MODELS, TRIALS, Database
from ernie_vilg_jax.evaluation.study.design import ASPECTS


class Answer(NamedTuple):
    """An answer. Raters are numbers here: the names that they typed stay in the database.

    Attributes:
      question: number of the rater's question.
      kind: "practice", "check" or "study".
      item: name of the prompt.
      language: in which the prompt was read.
      left, right: names of the models.
      choice: "left", "same" or "right".
      expected: the right choice, in practice and checks; "" if there is none.
      milliseconds: from the page to the answer; None where the browser did not say.
      changes: how many times the rater went back and changed it.
      time: UTC, of the last change.
    """

    rater: int
    question: int
    kind: str
    item: str
    category: str
    language: str
    aspect: str
    left: str
    right: str
    choice: str
    expected: str
    milliseconds: int | None
    changes: int
    time: str


def read(database: Database) -> list[Answer]:
    """All answers, by rater and question."""
    left, right = MODELS.alias(), MODELS.alias()
    query = (
        sql.select(
            ANSWERS, TRIALS.c.kind, ITEMS.c.name, ITEMS.c.category, left.c.name.label("left"),
            right.c.name.label("right"), TRIALS.c.expected_alignment, TRIALS.c.expected_fidelity,
        )
        .join(TRIALS, (TRIALS.c.rater == ANSWERS.c.rater) & (TRIALS.c.position == ANSWERS.c.question // 2))
        .join(ITEMS, ITEMS.c.id == TRIALS.c.item)
        .join(left, left.c.id == TRIALS.c.left_model)
        .join(right, right.c.id == TRIALS.c.right_model)
        .order_by(ANSWERS.c.rater, ANSWERS.c.question)
    )  # fmt: skip
    with database.reading() as connection:
        rows = connection.execute(query).all()
    return [
        Answer(
            row.rater, row.question, row.kind, row.name, row.category, row.language,
            ASPECTS[row.question % len(ASPECTS)], row.left, row.right, row.choice,
            (row.expected_alignment, row.expected_fidelity)[row.question % len(ASPECTS)],
            row.milliseconds, row.changes, row.time,
        )
        for row in rows
    ]  # fmt: skip


def as_csv(answers: Sequence[Answer]) -> str:
    """A table with a header line."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([Answer._fields, *answers])
    return buffer.getvalue()


def as_jsonl(answers: Sequence[Answer]) -> str:
    """An object per line."""
    return "".join(f"{json.dumps(answer._asdict(), ensure_ascii=False)}\n" for answer in answers)


WRITERS = {"csv": as_csv, "jsonl": as_jsonl}


def models(database: Database) -> list[str]:
    """The names of the models, in the order in which the study was made."""
    with database.reading() as connection:
        return list(
            connection.execute(sql.select(MODELS.c.name).where(MODELS.c.id > 0).order_by(MODELS.c.id)).scalars()
        )
