"""The report of a study: preferences, strengths, agreement; as an HTML page and CSV files."""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.study.answers import Answer
from ernie_vilg_jax.evaluation.study.design import ASPECTS
from ernie_vilg_jax.evaluation.study.statistics import bradley_terry, krippendorff_alpha, share
from ernie_vilg_jax.paths import write_atomically
from ernie_vilg_jax.templates import render

LEAST_CHECKS, LEAST_PASSED = 3, 0.7
"""A rater who has answered this many checks of attention and passed less than this share is left out."""


class Preference(NamedTuple):
    """How two models compare in one aspect, on all prompts or on a group of them.

    Attributes:
      group: "all", or such as "category: animals" and "language: zh".
      first_share, same_share, second_share: of the votes; together 1.
      preference, low, high: share of the first model with half of the "same" votes, and its 95% interval for other
        prompts of the kind, judged by these raters.
      wide_low, wide_high: the interval for other prompts and other raters.
    """

    group: str
    aspect: str
    first: str
    second: str
    votes: int
    prompts: int
    raters: int
    first_share: float
    same_share: float
    second_share: float
    preference: float
    low: float
    high: float
    wide_low: float
    wide_high: float


class Strength(NamedTuple):
    """A model's Bradley-Terry strength in log-odds, compared with the first model; errors by prompt.

    `against_first` is the chance that it is preferred over the first model.
    """

    aspect: str
    model: str
    strength: float
    error: float
    against_first: float


class Agreement(NamedTuple):
    """Krippendorff's alpha of the raters, by aspect and pair of models ("all" for all pairs)."""

    aspect: str
    pair: str
    nominal: float
    ordinal: float


class Tables(NamedTuple):
    """A whole report."""

    facts: Mapping[str, str]
    preferences: Sequence[Preference]
    strengths: Sequence[Strength]
    agreement: Sequence[Agreement]


def tables(answers: Sequence[Answer], models: Sequence[str]) -> Tables:
    """The report of all answers.

    Args:
      models: names; in a pair, the one that is earlier here is the first.

    Raises UserError if nothing has been answered yet.
    """
    left_out = _inattentive(answers)
    kept = [answer for answer in answers if answer.kind == "study" and answer.rater not in left_out]
    if not kept:
        more = f"; raters who failed checks of attention are left out: {len(left_out)}" if left_out else ""
        raise UserError(f"no rater has judged anything yet, so there is nothing to report{more}")
    times = [answer.milliseconds for answer in kept if answer.milliseconds is not None]
    passed = checks(answers)
    facts = {
        "raters": str(len({answer.rater for answer in kept})),
        "prompts": str(len({answer.item for answer in kept})),
        "votes": str(len(kept)),
        "raters left out, who failed checks of attention": ", ".join(map(str, sorted(left_out))) or "none",
        "checks of attention passed": f"{sum(passed)} of {len(passed)}",
        "median time per answer": f"{median(times) / 1000:.1f} s" if times else "not known",
    }
    return Tables(
        facts, list(_preferences(kept, models)), list(_strengths(kept, models)), list(_agreement(kept, models))
    )


def checks(answers: Sequence[Answer]) -> list[bool]:
    """Whether each check of attention was passed."""
    return [answer.choice == answer.expected for answer in answers if answer.kind == "check" and answer.expected]


def _inattentive(answers: Sequence[Answer]) -> set[int]:
    found = defaultdict(list)
    for answer in answers:
        found[answer.rater].append(answer)
    passed = {rater: checks(mine) for rater, mine in found.items()}
    return {rater for rater, all_ in passed.items() if len(all_) >= LEAST_CHECKS and np.mean(all_) < LEAST_PASSED}


def vote(answer: Answer, first: str) -> float:
    """1 if `first` was preferred, 0 if the other model was, 0.5 for "same"."""
    if answer.choice == "same":
        return 0.5
    return float((answer.left if answer.choice == "left" else answer.right) == first)


def _pairs(answers: Sequence[Answer], models: Sequence[str]) -> Iterator[tuple[str, str, list[Answer]]]:
    for first, second in combinations(models, 2):
        mine = [answer for answer in answers if {answer.left, answer.right} == {first, second}]
        if mine:
            yield first, second, mine


def _preferences(answers: Sequence[Answer], models: Sequence[str]) -> Iterator[Preference]:
    groups: dict[str, list[Answer]] = {"all": list(answers)}
    kinds: Mapping[str, Callable[[Answer], str]] = {
        "language": lambda one: one.language,
        "category": lambda one: one.category,
    }
    for kind, of in kinds.items():
        names = sorted({of(answer) for answer in answers})
        if len(names) > 1:
            groups |= {f"{kind}: {name or 'none'}": [one for one in answers if of(one) == name] for name in names}
    for group, members in groups.items():
        for first, second, compared in _pairs(members, models):
            for aspect in ASPECTS:
                mine = [answer for answer in compared if answer.aspect == aspect]
                if mine:
                    yield _preference(group, aspect, first, second, mine)


def _preference(group: str, aspect: str, first: str, second: str, answers: Sequence[Answer]) -> Preference:
    votes = np.array([vote(answer, first) for answer in answers])
    prompts, raters = (np.array([str(one) for one in column]) for column in _columns(answers))
    narrow = share(votes, prompts)
    wide = share(votes, prompts, raters)
    return Preference(
        group, aspect, first, second, len(votes), len(set(prompts)), len(set(raters)),
        float(np.mean(votes == 1)), float(np.mean(votes == 0.5)), float(np.mean(votes == 0)),
        *narrow, wide.low, wide.high,
    )  # fmt: skip


def _columns(answers: Sequence[Answer]) -> tuple[list[str], list[int]]:
    return [answer.item for answer in answers], [answer.rater for answer in answers]


def _strengths(answers: Sequence[Answer], models: Sequence[str]) -> Iterator[Strength]:
    seen = {name for answer in answers for name in (answer.left, answer.right)}
    known = [name for name in models if name in seen]
    number = {name: place for place, name in enumerate(known)}
    for aspect in ASPECTS:
        mine = [answer for answer in answers if answer.aspect == aspect]
        if not mine or {name for one in mine for name in (one.left, one.right)} != seen:
            continue
        ends = [sorted((number[answer.left], number[answer.right])) for answer in mine]
        first, second = np.array(ends).T
        votes = np.array([vote(answer, known[a]) for answer, a in zip(mine, first, strict=True)])
        fit = bradley_terry(votes, first, second, np.array([answer.item for answer in mine]))
        for name, value, error in zip(known, *fit, strict=True):
            yield Strength(aspect, name, float(value), float(error), float(1 / (1 + np.exp(-value))))


def _agreement(answers: Sequence[Answer], models: Sequence[str]) -> Iterator[Agreement]:
    for aspect in ASPECTS:
        mine = [answer for answer in answers if answer.aspect == aspect]
        pairs = [(f"{first}, {second}", compared) for first, second, compared in _pairs(mine, models)]
        for name, compared in ([("all", mine)] if len(pairs) > 1 else []) + pairs:
            yield Agreement(aspect, name, alpha(compared), alpha(compared, ordered=True))


def alpha(answers: Sequence[Answer], *, ordered: bool = False) -> float:
    """Krippendorff's alpha of answers of one aspect; a unit is a prompt and a pair of models."""
    units = {unit: place for place, unit in enumerate({_unit(answer): None for answer in answers})}
    people = {rater: place for place, rater in enumerate({answer.rater: None for answer in answers})}
    ratings = np.full((len(people), len(units)), np.nan)
    for answer in answers:
        ratings[people[answer.rater], units[_unit(answer)]] = vote(answer, min(answer.left, answer.right))
    return krippendorff_alpha(ratings, ordered=ordered)


def _unit(answer: Answer) -> tuple[str, str, str]:
    return answer.item, min(answer.left, answer.right), max(answer.left, answer.right)


def shown_alpha(value: float) -> str:
    """Two digits, or a dash where it is not defined."""
    return "-" if np.isnan(value) else f"{value:.2f}"


def page(report: Tables, title: str) -> str:
    """The report as one HTML page that needs no other file."""
    return render(
        "study_report.html",
        title=f"Report: {title}" if title else "Report of a human study",
        facts=report.facts,
        bars=[_bar(one) for one in report.preferences if one.group == "all"],
        preferences=[_shown(one) for one in report.preferences],
        strengths=[
            (one.aspect, one.model, f"{one.strength:+.2f}", *_error(one), f"{one.against_first:.1%}")
            for one in report.strengths
        ],
        agreement=[
            (one.aspect, one.pair, shown_alpha(one.nominal), shown_alpha(one.ordinal)) for one in report.agreement
        ],
        rule=f"{LEAST_PASSED:.0%} of at least {LEAST_CHECKS}",
    )


def _error(one: Strength) -> tuple[str]:
    if one.error == 0:
        return ("compared with",)
    if np.isnan(one.error):
        return ("no finite value: it always won, or always lost",)
    return (f"{one.strength - 1.96 * one.error:+.2f} to {one.strength + 1.96 * one.error:+.2f}",)


def _shown(one: Preference) -> tuple[str, ...]:
    shares = " / ".join(f"{100 * value:.1f}" for value in (one.first_share, one.same_share, one.second_share))
    intervals = (f"{100 * low:.1f} to {high:.1%}" for low, high in ((one.low, one.high), (one.wide_low, one.wide_high)))
    votes = f"{one.votes} ({one.prompts}, {one.raters})"
    pair = f"{one.first} / {one.second}"
    return one.group, one.aspect, pair, votes, f"{shares} %", f"{one.preference:.1%}", *intervals


def _bar(one: Preference) -> dict[str, Any]:
    return {**one._asdict(), "label": f"{one.first} against {one.second}: {one.aspect}"}


def write(report: Tables, title: str, output: Path) -> None:
    """Writes report.html, preferences.csv, strengths.csv and agreement.csv."""
    write_atomically(output / "report.html", page(report, title).encode())
    for name in ("preferences", "strengths", "agreement"):
        rows = getattr(report, name)
        write_atomically(output / f"{name}.csv", _csv(rows).encode())


def _csv(rows: Sequence[Any]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if rows:
        writer.writerows([rows[0]._fields, *rows])
    return buffer.getvalue()
