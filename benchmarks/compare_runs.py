"""Draws the validation loss of each stage of several runs at equal steps.

    python benchmarks/compare_runs.py --output=curves.png baseline=runs/demo/base knowledge=runs/knowledge/base

Each run is NAME=FOLDER, the folder that holds its metrics.jsonl. Also prints a table of the steps that all have.
Needs matplotlib (`pip install '.[dev]'`).
"""

# The environment of the tests has no matplotlib.
# pyright: reportMissingImports=false

import json
import sys
from pathlib import Path

from absl import app, flags

_OUTPUT = flags.DEFINE_string("output", "curves.png", "Image file to write.")
PREFIX = "validation/"


def read(folder: str) -> dict[int, dict[str, float]]:
    """Step -> validation losses by name; the last line of a step counts (a run that was resumed may repeat some)."""
    path = Path(folder) / "metrics.jsonl"
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}; give the folder of a run that holds metrics.jsonl")
    found: dict[int, dict[str, float]] = {}
    for line in lines:
        row = json.loads(line)
        losses = {name.removeprefix(PREFIX): value for name, value in row.items() if name.startswith(PREFIX)}
        if losses:
            found[int(row["step"])] = losses
    return found


def main(argv: list[str]) -> None:
    runs = {name: read(folder) for name, _, folder in (argument.partition("=") for argument in argv[1:])}
    if len(runs) < 2 or not all(runs.values()):
        sys.exit("give at least two runs with validation losses, as NAME=FOLDER")
    names = sorted(set.intersection(*(set(next(iter(run.values()))) for run in runs.values())))
    shared = sorted(set.intersection(*(set(run) for run in runs.values())))
    print("| step | run | " + " | ".join(names) + " |\n|" + " --- |" * (len(names) + 2))
    for step in shared:
        for label, run in runs.items():
            print(f"| {step} | {label} | " + " | ".join(f"{run[step][name]:.4f}" for name in names) + " |")

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(names), figsize=(3.1 * len(names), 2.9), layout="constrained")
    for panel, name in zip(axes, names, strict=True):
        for label, run in runs.items():
            steps = sorted(run)
            panel.plot(steps, [run[step][name] for step in steps], marker="o", markersize=3, label=label)
        panel.set_title(name.replace("_", " "), fontsize=10)
        panel.set_xlabel("step", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(_OUTPUT.value, dpi=110)
    print(f"drawn in {_OUTPUT.value}")


if __name__ == "__main__":
    app.run(main)
