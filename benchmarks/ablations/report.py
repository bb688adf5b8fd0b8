"""docs/ablations.md from the scores of the runs: tables with intervals, plots, and a sentence for each claim."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.ablations import plots
from benchmarks.ablations.cells import BASELINE, CELLS, SEEDS, Cell, chosen
from benchmarks.ablations.intervals import Interval, Scores, interval

SCALE = "3"
"""The guidance scale of the tables, chosen before any cell was scored: the default of the config."""
PLOTS = """![Colours over guidance scales, and over the distance to real images](images/ablations_guidance.png)

![Attention to words of a prompt, at the first and the last step](images/ablations_attention.png)"""
MEASURE = "binding_colour"
"""What is compared: the share of things that are there in their colour, which the paper's models confuse. Chosen by the
pilot, in which the baseline had 35% of them, and all right in 6% of the images."""
METRICS = {
    "binding": "all right",
    "binding_object": "objects",
    "binding_colour": "colours",
    "binding_relation": "relation",
    "kid_efficientnet": "KID x 100",
}
CLAIMS = (
    ("Textual knowledge helps.", "textual", BASELINE),
    ("Visual knowledge helps.", "visual", BASELINE),
    ("Both together help.", "both", BASELINE),
    ("Both together help more than visual knowledge alone.", "both", "visual"),
    ("Four experts are better than the model that they start from.", "4 experts", BASELINE),
    ("Four experts are better than one model trained on for the same samples.", "4 experts", "trained on"),
)


def read_scores(work: Path) -> Scores:
    found = {}
    for cell in CELLS:
        for seed in SEEDS:
            file = work / "runs" / cell.folder / str(seed) / "scores" / "results.json"
            if file.exists():
                found[cell.name, seed] = _by_scale(json.loads(file.read_text()))
    return found


def _by_scale(results: Mapping[str, object]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for result in results["results"]:  # type: ignore[attr-defined]
        scale = f"{result['setting']['guidance_scale']:g}"
        found[scale] = {score["metric"]: score["value"] for score in result["scores"] if not score["group"]}
    return found


def difference(scores: Scores, cell: str, against: str, metric: str = MEASURE) -> Interval | None:
    """Of the seeds that have both cells, pair by pair; None if there is none."""
    pairs = [
        scores[cell, seed][SCALE][metric] - scores[against, seed][SCALE][metric]
        for seed in SEEDS
        if (cell, seed) in scores and (against, seed) in scores
    ]
    return interval(pairs) if pairs else None


def verdict(gain: Interval | None) -> str:
    if gain is None or not np.isfinite(gain.low):
        return "not measured"
    return "reproduced" if gain.low > 0 else "not reproduced: it hurts" if gain.high < 0 else "undecided"


def _row(scores: Scores, cell: Cell) -> str:
    seeds = [seed for seed in SEEDS if (cell.name, seed) in scores]
    if not seeds:
        return f"| {cell.name} | 0 |" + " |" * len(METRICS)
    values = []
    for metric in METRICS:
        value = interval([scores[cell.name, seed][SCALE][metric] for seed in seeds])
        values.append(str(value) if len(seeds) > 1 else f"{100 * value.mean:.1f}")
    return f"| {cell.name} | {len(seeds)} | " + " | ".join(values) + " |"


def _gain(scores: Scores, cell: str, against: str) -> str:
    gains = [difference(scores, cell, against, metric) for metric in METRICS]
    return f"| {cell} | {against} | " + " | ".join("" if gain is None else str(gain) for gain in gains) + " |"


def tables(scores: Scores) -> str:
    """The main table, the gains seed by seed, and the exploratory table."""
    head, pairs = (
        f"| {' | '.join([*names, *METRICS.values()])} |\n|" + " --- |" * (2 + len(METRICS))
        for names in (("cell", "seeds"), ("cell", "against"))
    )
    main = [_row(scores, cell) for cell in CELLS if not cell.exploratory]
    gains = [_gain(scores, cell, against) for _, cell, against in CLAIMS]
    more = [_row(scores, cell) for cell in CELLS if cell.exploratory]
    differences = ["", "Differences, seed by seed:", "", pairs, *gains]
    rest = ["", "One seed each, exploratory; those with 0 seeds have not been run:", "", head, *more]
    return "\n".join([head, *main, *differences, *rest])


def claims(scores: Scores) -> str:
    lines = []
    for claim, cell, against in CLAIMS:
        gain = difference(scores, cell, against)
        shown = f" Gain {gain} points." if gain is not None and np.isfinite(gain.low) else ""
        lines.append(f"- {claim} **{verdict(gain)[0].upper()}{verdict(gain)[1:]}.**{shown}")
    return "\n".join(lines)


def stage_losses(work: Path) -> dict[str, dict[str, float]]:
    """Cell -> the last validation losses of its first seed, by name."""
    found = {}
    for cell in CELLS:
        phase = "experts" if cell.experts else "base"
        file = work / "runs" / cell.folder / str(SEEDS[0]) / phase / "metrics.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        last = [line for line in lines if any(name.startswith("validation/") for name in line)][-1:]
        for line in last:
            found[cell.name] = {k[11:]: v for k, v in line.items() if k.startswith("validation/")}
    return found


def write(work: Path, folder: Path) -> None:
    """ablations.json, two plots in images/, and the tables between the marks of ablations.md."""
    scores = read_scores(work)
    if not scores:
        raise SystemExit(f"{work} has no scores yet: run python -m benchmarks.ablations --work={work}")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    plots.guidance(scores, MEASURE, "kid_efficientnet", folder / "images" / "ablations_guidance.png")
    plots.attention(work, folder / "images" / "ablations_attention.png")
    ceiling = json.loads((work / "ceiling" / "results.json").read_text())["results"][0]["scores"]
    content = {
        "scores": {f"{cell}/{seed}": by_scale for (cell, seed), by_scale in scores.items()},
        "ceiling": {score["metric"]: score["value"] for score in ceiling if not score["group"]},
        "validation": stage_losses(work),
    }
    (folder / "ablations.json").write_text(json.dumps(content, indent=1) + "\n")
    page = folder / "ablations.md"
    parts = {"claims": claims(scores), "tables": tables(scores), "plots": PLOTS, "losses": _losses(content)}
    for name, text in parts.items():
        page.write_text(_between(page.read_text(), name, text))
    print(f"{page}, {folder / 'ablations.json'}: {len(scores)} of {len(chosen([], list(SEEDS)))} runs")


def _losses(content: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    losses = content["validation"]
    names = sorted({name for row in losses.values() for name in row})
    rows = [
        f"| {cell} | " + " | ".join(f"{row[n]:.4f}" if n in row else "" for n in names) + " |"
        for cell, row in losses.items()
    ]
    head = f"| cell | {' | '.join(name.replace('_', ' ') for name in names)} |\n|" + " --- |" * (len(names) + 1)
    return "\n".join([head, *rows])


def _between(page: str, name: str, text: str) -> str:
    """`page` with `text` between <!-- name --> and <!-- /name -->."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = page.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"the page has no {start} ... {end}")
    return f"{before}{start}\n{text}\n{end}{after}"
