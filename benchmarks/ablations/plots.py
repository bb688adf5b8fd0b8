"""The plots of docs/ablations.md."""

# The environment of the tests has no matplotlib.
# pyright: reportMissingImports=false

import json
from pathlib import Path

import numpy as np

from benchmarks.ablations.cells import CELLS, SEEDS
from benchmarks.ablations.intervals import Scores, interval


def guidance(scores: Scores, measure: str, distance: str, file: Path) -> None:
    """A measure over guidance scales, the mean over seeds and its interval; and over the distance to real images, a
    point for each scale, as in the paper's figures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    axes, front = figure.subplots(1, 2)
    for cell in CELLS:
        seeds = [seed for seed in SEEDS if (cell.name, seed) in scores]
        if cell.exploratory or not seeds:
            continue
        scales = sorted(scores[cell.name, seeds[0]], key=float)
        points = [interval([scores[cell.name, seed][scale][measure] for seed in seeds]) for scale in scales]
        half = [0.0 if len(seeds) < 2 else 100 * (p.high - p.mean) for p in points]
        axes.errorbar(
            [float(s) for s in scales], [100 * p.mean for p in points], half, label=cell.name, capsize=2, marker="o"
        )
        far = [np.mean([scores[cell.name, seed][scale][distance] for seed in seeds]) for scale in scales]
        front.plot([100 * x for x in far], [100 * p.mean for p in points], marker="o", label=cell.name)
        for x, point, scale in zip(far, points, scales, strict=True):
            front.annotate(scale, (100 * x, 100 * point.mean), fontsize=6, xytext=(3, 3), textcoords="offset points")
    axes.set_xlabel("guidance scale")
    front.set_xlabel("KID by EfficientNet x 100, at each guidance scale")
    axes.set_ylabel("things in their colours, %")
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=120)


def attention(work: Path, file: Path, scale: float = 3.0, steps: int = 25) -> None:
    """A prompt's image and the attention to the colour and shape of its first thing, near t = T and near 0: a row for
    each cell of the first seed that is there."""
    from matplotlib.figure import Figure

    import ernie_vilg_jax

    lines = [json.loads(line) for line in (work / "prompts.jsonl").read_text().splitlines()]
    prompt = next(line["prompt"] for line in lines if line["prompt"].isascii())
    words = prompt.split()[1:3]  # "a red star above …"
    folders = {cell.name: work / "runs" / cell.folder / str(SEEDS[0]) for cell in CELLS if not cell.exploratory}
    there = {name: folder for name, folder in folders.items() if (folder / "scores" / "results.json").exists()}
    if not there:
        return
    figure = Figure(figsize=(8, 1.7 * len(there) + 0.5), layout="constrained")
    rows = figure.subplots(len(there), 1 + 2 * len(words), squeeze=False)
    for row, (name, folder) in zip(rows, there.items(), strict=True):
        pipe = ernie_vilg_jax.load(folder)
        row[0].set_ylabel(name)
        for place, word in enumerate(words):
            found = pipe.attention_maps(prompt, word, steps=steps, guidance_scale=scale, seed=SEEDS[0])
            row[0].imshow(np.asarray(found.image))
            for column, step in ((1 + 2 * place, 0), (2 + 2 * place, steps - 1)):
                row[column].imshow(found.maps[step], cmap="magma")
                row[column].set_title(f"{word}, t = {found.timesteps[step]}", fontsize=8)
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
    figure.suptitle(prompt, fontsize=9)
    figure.savefig(file, dpi=120)
