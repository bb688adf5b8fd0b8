"""Raters: invitations, the question that each is at, and answers.

The rules that no answer is lost or counted twice rest on:

- A rater is whoever has the personal link; it works on any device.
- Questions are answered in order, so the next one is the number of answers.
- An answer is one row, by (rater, question), committed before the next question is shown.
- The first answer that a page sends counts. A post that comes again changes nothing. To change an answer, a rater goes
  back to its question; that post says which version of the answer it has seen, and counts only if it is the latest.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sql

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.study import practice
from ernie_vilg_jax.evaluation.study.database import (
    ANSWERS,
    ITEMS,
    MODELS,
    PICTURES,
    RATERS,
    SETTINGS,
    TRIALS,
    Database,
)
from ernie_vilg_jax.evaluation.study.design import ASPECTS, CHOICES, Design, Trial

LONGEST = 3_600_000
"""Milliseconds: longer times for an answer are not times of looking, and are not kept."""


class Rater(NamedTuple):
    """A rater, and how far along.

    Attributes:
      questions: of all trials.
      answered: how many of them have an answer; also the number of the next one.
    """

    number: int
    token: str
    name: str
    language: str
    started: bool
    questions: int
    answered: int


class Question(NamedTuple):
    """What a rater is asked.

    Attributes:
      number: from 0.
      aspect: one of `ASPECTS`.
      texts: the prompt by language.
      pictures: ids, of the left and of the right side.
      expected: the right choice, in practice and checks; "" if there is none.
      choice: the answer so far, or "".
      changes: how many times it has been changed; -1 if there is none. `answer` takes it as `seen`.
    """

    number: int
    kind: str
    aspect: str
    texts: dict[str, str]
    pictures: tuple[Sequence[str], Sequence[str]]
    expected: str
    choice: str
    changes: int


class Raters:
    """The raters of a study."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.settings = database.settings()
        with database.reading() as connection:
            items = connection.execute(sql.select(ITEMS.c.id, ITEMS.c.category).order_by(ITEMS.c.id)).all()
            models = connection.execute(sql.select(MODELS.c.id).where(MODELS.c.id != practice.MODEL)).scalars().all()
        drawn = 2 * len(practice.EXAMPLES)
        trials = [practice.trial(one, 2 * n)[0] for n, one in enumerate(practice.EXAMPLES)]
        self._design = Design(
            items=[item.id for item in items if item.id >= drawn],
            models=models,
            categories=[item.category for item in items if item.id >= drawn],
            practice=trials if self.settings["practice"] else (),
            each=self.settings["each"],
            check_every=self.settings["check_every"],
            seed=self.settings["seed"],
        )

    def invite(self, count: int) -> list[Rater]:
        """Makes raters, whoever gets their links."""
        with self._database.writing() as connection:
            return [self._add(connection) for _ in range(count)]

    def join(self) -> Rater | None:
        """Makes a rater for somebody with the open link; None if the study is closed or full."""
        with self._database.writing() as connection:
            self._lock(connection)
            count = connection.execute(sql.select(sql.func.count()).select_from(RATERS)).scalar_one()
            return None if count >= self.settings["most_raters"] else self._add(connection)

    def _lock(self, connection: sql.Connection) -> None:
        """Makes Postgres do one at a time, as SQLite does anyway."""
        connection.execute(sql.select(SETTINGS.c.name).where(SETTINGS.c.name == "seed").with_for_update())

    def _add(self, connection: sql.Connection) -> Rater:
        self._lock(connection)
        number = connection.execute(sql.select(sql.func.coalesce(sql.func.max(RATERS.c.number), -1))).scalar_one() + 1
        token = secrets.token_urlsafe(16)
        trials = self._design.trials(number)
        values = {"number": number, "token": token, "name": "", "language": "en", "started": False}
        connection.execute(sql.insert(RATERS), values)
        connection.execute(sql.insert(TRIALS), [_trial_row(number, n, trial) for n, trial in enumerate(trials)])
        return Rater(**values, questions=len(trials) * len(ASPECTS), answered=0)

    def all(self) -> list[Rater]:
        """Every rater, in order."""
        return self._found(sql.true())

    def find(self, token: str) -> Rater | None:
        """The rater of a personal link."""
        return next(iter(self._found(RATERS.c.token == token)), None)

    def _found(self, which: sql.ColumnElement[bool]) -> list[Rater]:
        trials = sql.select(sql.func.count()).where(TRIALS.c.rater == RATERS.c.number).scalar_subquery()
        answered = sql.select(sql.func.count()).where(ANSWERS.c.rater == RATERS.c.number).scalar_subquery()
        query = sql.select(RATERS, (trials * len(ASPECTS)).label("questions"), answered.label("answered"))
        with self._database.reading() as connection:
            return [Rater(*row) for row in connection.execute(query.where(which).order_by(RATERS.c.number))]

    def start(self, rater: Rater, name: str, language: str) -> None:
        """Keeps what a rater typed on the first page."""
        self._update(rater, name=name, language=language, started=True)

    def speak(self, rater: Rater, language: str) -> None:
        """Changes the language of the pages."""
        self._update(rater, language=language)

    def _update(self, rater: Rater, **values: Any) -> None:
        with self._database.writing() as connection:
            connection.execute(sql.update(RATERS).where(RATERS.c.number == rater.number).values(**values))

    def question(self, rater: Rater, number: int) -> Question | None:
        """A question that is answered, or the next one; None for any other."""
        if not 0 <= number <= min(rater.answered, rater.questions - 1):
            return None
        position, aspect = divmod(number, len(ASPECTS))
        with self._database.reading() as connection:
            trial = connection.execute(
                sql.select(TRIALS, ITEMS.c.en, ITEMS.c.zh)
                .join(ITEMS, ITEMS.c.id == TRIALS.c.item)
                .where(TRIALS.c.rater == rater.number, TRIALS.c.position == position)
            ).one()
            answer = connection.execute(
                sql.select(ANSWERS.c.choice, ANSWERS.c.changes).where(
                    ANSWERS.c.rater == rater.number, ANSWERS.c.question == number
                )
            ).first()
            sides = [(trial.left_item, trial.left_model), (trial.right_item, trial.right_model)]
            pictures = [
                connection.execute(
                    sql.select(PICTURES.c.id)
                    .where(PICTURES.c.item == item, PICTURES.c.model == model)
                    .order_by(PICTURES.c.place)
                ).scalars().all()
                for item, model in sides
            ]  # fmt: skip
        texts = {language: text for language, text in (("en", trial.en), ("zh", trial.zh)) if text}
        expected = (trial.expected_alignment, trial.expected_fidelity)[aspect]
        choice, changes = answer or ("", -1)
        return Question(
            number, trial.kind, ASPECTS[aspect], texts, (pictures[0], pictures[1]), expected, choice, changes
        )

    def answer(self, rater: Rater, number: int, choice: str, *, seen: int, milliseconds: int | None = None) -> Question:
        """Stores an answer, see the rules above, and returns the question as it was before.

        Args:
          seen: `Question.changes` of the page that the rater answered.

        Raises UserError for a choice that there is not, and for a question that is not yet or never asked.
        """
        if choice not in CHOICES:
            raise UserError(f"the choice must be one of {', '.join(CHOICES)}")
        question = self.question(rater, number)
        if question is None:
            raise UserError("this question is not asked yet, or there is none of this number")
        if milliseconds is not None and not 0 <= milliseconds <= LONGEST:
            milliseconds = None
        told = question.texts
        row = {
            "rater": rater.number,
            "question": number,
            "choice": choice,
            "language": rater.language if rater.language in told else next(iter(told)),
            "milliseconds": milliseconds,
            "changes": 0,
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        change = {"choice": choice, "changes": ANSWERS.c.changes + 1, "time": row["time"]}
        statement = self._database.insert(ANSWERS).values(row)
        statement = statement.on_conflict_do_update(
            index_elements=["rater", "question"],
            set_=change,
            where=sql.and_(ANSWERS.c.changes == seen, ANSWERS.c.choice != choice),
        )
        with self._database.writing() as connection:
            connection.execute(statement)
        return question

    def picture(self, id: str) -> bytes | None:
        """The WebP of a picture."""
        with self._database.reading() as connection:
            return connection.execute(sql.select(PICTURES.c.data).where(PICTURES.c.id == id)).scalar()


def _trial_row(rater: int, position: int, trial: Trial) -> dict[str, Any]:
    sides = {"left": trial.left, "right": trial.right}
    shown = {f"{side}_{what}": getattr(one, what) for side, one in sides.items() for what in ("item", "model")}
    expected = {f"expected_{aspect}": choice for aspect, choice in zip(ASPECTS, trial.expected, strict=True)}
    return {"rater": rater, "position": position, "kind": trial.kind, "item": trial.item, **shown, **expected}
