"""What the owner of a study watches: progress, agreement, attention, time per answer."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

from ernie_vilg_jax.evaluation.study import report
from ernie_vilg_jax.evaluation.study.answers import Answer
from ernie_vilg_jax.evaluation.study.design import ASPECTS
from ernie_vilg_jax.evaluation.study.raters import Rater, Raters


def overview(raters: Raters, answers: Sequence[Answer], address: str) -> dict[str, Any]:
    """The values of the owner's page.

    Args:
      address: of the study, for the links.
    """
    own: dict[int, list[Answer]] = defaultdict(list)
    for answer in answers:
        own[answer.rater].append(answer)
    people = raters.all()
    open_link = f"{address}/join/{raters.settings['join']}" if raters.settings["most_raters"] else ""
    return {
        "facts": _facts(answers, sum(person.questions for person in people), sum(map(bool, own.values()))),
        "raters": [
            {
                "number": person.number,
                "name": person.name,
                "questions": person.questions,
                "answered": person.answered,
                "checks": _passed(own[person.number]),
                "seconds": _seconds(own[person.number]),
                "last": max((answer.time for answer in own[person.number]), default="").replace("T", " ").rstrip("Z"),
                "link": f"{address}/r/{person.token}",
            }
            for person in people
        ],
        "open_link": open_link,
        "most_raters": raters.settings["most_raters"],
    }


def _facts(answers: Sequence[Answer], questions: int, active: int) -> dict[str, str]:
    facts = {"answers": f"{len(answers)} / {questions}", "raters with answers": str(active)}
    for aspect in ASPECTS:
        mine = [answer for answer in answers if answer.kind == "study" and answer.aspect == aspect]
        facts[f"agreement on {aspect} (ordinal alpha)"] = report.shown_alpha(report.alpha(mine, ordered=True))
    return facts | {"attention checks passed": _passed(answers), "median time per answer": _seconds(answers)}


def _passed(answers: Sequence[Answer]) -> str:
    checks = report.checks(answers)
    return f"{sum(checks)} / {len(checks)}" if checks else "-"


def _seconds(answers: Sequence[Answer]) -> str:
    times = [answer.milliseconds for answer in answers if answer.milliseconds is not None and answer.kind != "practice"]
    return f"{median(times) / 1000:.1f} s" if times else "-"


def personal_links(people: Sequence[Rater], address: str) -> str:
    """A line for each rater."""
    return "\n".join(f"rater {person.number}: {address.rstrip('/')}/r/{person.token}" for person in people)


def links(raters: Raters, address: str) -> str:
    """All that an owner needs: the page of the owner, its secret, and the links of raters."""
    address = address.rstrip("/")
    settings = raters.settings
    lines = [f"progress: {address}/admin", f"secret:   {settings['secret']}"]
    if settings["most_raters"]:
        lines.append(f"open:     {address}/join/{settings['join']} (until there are {settings['most_raters']} raters)")
    return "\n".join([*lines, *filter(None, [personal_links(raters.all(), address)])])
