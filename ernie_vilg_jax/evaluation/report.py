"""The report of an evaluation: one HTML page with tables, plots of a sweep, and images."""

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ernie_vilg_jax.errors import UserError, install
from ernie_vilg_jax.evaluation.evaluate import Result
from ernie_vilg_jax.evaluation.image_sets import pixels
from ernie_vilg_jax.evaluation.metrics import Score
from ernie_vilg_jax.grid import labelled_grid
from ernie_vilg_jax.paths import write_atomically
from ernie_vilg_jax.tables import rows
from ernie_vilg_jax.templates import render

REPORT = "report.html"
SHOWN = 24
"""Images of a setting that the report shows."""
CELL = 128


def write(results: Sequence[Result], about: Mapping[str, Any], output: Path) -> None:
    """Writes `output/report.html`; it needs no other file."""
    subject = about.get("checkpoint") or about.get("images") or "images"
    notes = [f"{name}: {value}" for name, value in about.items() if value not in (None, "", {})]
    tables = [_overview(results), *_groups(results)]
    if any(score.metric == "fid" for result in results for score in result.scores):
        tables.append(_published())
    page = render(
        "scores.html",
        title=f"Scores of {subject}",
        notes=[*notes, "Intervals are 95%: by a bootstrap over prompts, or of the estimator where it has an error."],
        tables=tables,
        plots=_plots(results),
        grids=[{"title": _name(result), "source": _grid(result)} for result in results],
    )
    write_atomically(output / REPORT, page.encode())


def _name(result: Result) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in result.setting.options.items()) or "all images"


def shown(score: Score) -> str:
    """A value and its interval, with as many digits as the interval is worth."""
    width = score.high - score.low
    digits = int(np.clip(1 - np.floor(np.log10(width)), 0, 4)) if width > 0 else 3
    return f"{score.value:.{digits}f} ({score.low:.{digits}f} to {score.high:.{digits}f})"


def _overview(results: Sequence[Result]) -> dict[str, Any]:
    names = list(dict.fromkeys(score.metric for result in results for score in result.scores))
    table = []
    for result in results:
        whole = {score.metric: score for score in result.scores if not score.group}
        table.append(
            [_name(result), len(result.made.own), *(shown(whole[name]) if name in whole else "" for name in names)]
        )
    return {"title": "All images", "header": ["", "images", *names], "rows": table}


def _groups(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A table of languages and categories for each setting that has them."""
    tables = []
    for result in results:
        groups = list(dict.fromkeys(score.group for score in result.scores if score.group))
        if not groups:
            continue
        names = list(dict.fromkeys(score.metric for score in result.scores if score.group))
        found = {(score.group, score.metric): score for score in result.scores}
        table = [
            [group, *(shown(found[group, name]) if (group, name) in found else "" for name in names)]
            for group in groups
        ]
        tables.append({"title": f"By group: {_name(result)}", "header": ["", *names], "rows": table})
    return tables


def _published() -> dict[str, Any]:
    return {
        "title": "Published: zero-shot FID-30k on MS-COCO at 256 pixels, comparable only with that protocol",
        "header": ["model", "FID", ""],
        "rows": [[*row, *[""] * (3 - len(row))] for row in rows("published_scores.tsv")],
    }


def _plots(results: Sequence[Result]) -> list[dict[str, str]]:
    """Each pair of metrics over the points of a sweep, as in the paper's figure of FID against CLIP score."""
    if len(results) < 2:
        return []
    Figure = figures()
    names = list(dict.fromkeys(score.metric for score in results[0].scores if not score.group))
    plots = []
    for across, up in combinations(names, 2):
        figure = Figure(figsize=(5, 4), layout="constrained")
        axes = figure.add_subplot()
        points = [[_whole(result, name) for name in (across, up)] for result in results]
        values = np.array([[one.value for one in point] for point in points])
        errors = np.array([[[one.value - one.low, one.high - one.value] for one in point] for point in points])
        axes.errorbar(*values.T, xerr=errors[:, 0].T.clip(0), yerr=errors[:, 1].T.clip(0), marker="o", capsize=2)
        for result, (x, y) in zip(results, values, strict=True):
            axes.annotate(_name(result), (x, y), textcoords="offset points", xytext=(5, 5), fontsize=8)
        axes.set(xlabel=across, ylabel=up)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg")
        plots.append({"title": f"{up} against {across}", "source": _source(buffer.getvalue(), "svg+xml")})
    return plots


def figures() -> Any:
    """matplotlib's Figure. Raises UserError without matplotlib; call it before a sweep, not after it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(f"the plots of a sweep need matplotlib: {install('evaluate')}") from error
    return Figure


def _whole(result: Result, metric: str) -> Score:
    return next(score for score in result.scores if score.metric == metric and not score.group)


def _grid(result: Result) -> str:
    """Evenly spread images with their prompts."""
    made = result.made
    chosen = np.unique(np.linspace(0, len(made.own) - 1, min(SHOWN, len(made.own))).astype(int))
    images = [Image.fromarray(pixels(made.images, int(number))) for number in chosen]
    buffer = io.BytesIO()
    labelled_grid(images, [made.prompts[made.own[number]].text for number in chosen], cell=CELL).save(buffer, "PNG")
    return _source(buffer.getvalue(), "png")


def _source(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
