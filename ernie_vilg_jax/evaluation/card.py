"""The model card of a checkpoint: what it is, what it was trained on, how well it does, and what it cannot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ernie_vilg_jax.data.sizes import sizes_of
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.evaluate import Result
from ernie_vilg_jax.evaluation.report import shown
from ernie_vilg_jax.paths import write_atomically
from ernie_vilg_jax.preparation.sources import make_source

WORST = 20
"""Prompts that the card names as those it shows least."""


def write(
    path: Path, name: str, command: str, config: ConfigDict, results: Sequence[Result], about: Mapping[str, Any]
) -> None:
    """Writes the card, in Markdown.

    Args:
      name: of the model, for the title.
      command: that made this card.
      config: of the checkpoint.
      results: of one or several settings.
      about: the options of the evaluation.
    """
    parts = [
        f"# Model card: {name}",
        f"Written by\n\n```bash\n{command}\n```",
        *description(config),
        "## Scores\n\n" + "\n\n".join(_scores(result, about) for result in results),
        "## Limits\n\n" + "\n\n".join(_limits(result) for result in results),
    ]
    write_atomically(path, ("\n\n".join(parts) + "\n").encode())


def description(config: ConfigDict) -> list[str]:
    """The parts of a card that follow from the checkpoint's config alone."""
    return ["## The model\n\n" + _model(config), "## Training data\n\n" + _data(config)]


def _model(config: ConfigDict) -> str:
    phases, sizes = config.phases, " or ".join(f"{size.height} x {size.width}" for size in sizes_of(config))
    experts = f"{config.experts.n} experts" if config.experts.n > 1 else "one U-Net"
    steps = ", ".join(
        f"{name} {phases[name].steps} steps of {phases[name].batch_size} images"
        for name in ("autoencoder", "base", "experts")
    )
    return (
        f"A text-to-image diffusion model in the manner of ERNIE-ViLG 2.0, trained from scratch: {sizes} pixels, "
        f"{experts} ({config.experts.stages} stages), prompts in Chinese and English. Its config asks for {steps}. "
        f"Knowledge enhancement: {'on' if config.knowledge.enabled else 'off'}."
    )


def _data(config: ConfigDict) -> str:
    lines = ["| work | licence | author |", "| --- | --- | --- |"]
    for options in config.data.sources:
        try:
            licences = make_source(options, size=config.model.image_size).licences()
        except UserError as error:  # a folder of the machine that trained it
            lines.append(f"| source {options['name']} | not known here ({error}) | |")
            continue
        lines += [f"| [{one.work}]({one.url}) | {one.licence} | {one.author} |" for one in licences]
    weights = ", ".join(f"{name} {weight:g}" for name, weight in config.data.weights.items())
    return "\n".join(lines) + (f"\n\nDrawn in these shares: {weights}." if weights else "")


def _scores(result: Result, about: Mapping[str, Any]) -> str:
    groups = list(dict.fromkeys(score.group for score in result.scores))
    names = list(dict.fromkeys(score.metric for score in result.scores))
    found = {(score.group, score.metric): score for score in result.scores}
    lines = [f"| images | n | {' | '.join(names)} |", "| --- " * (len(names) + 2) + "|"]
    for group in groups:
        cells = [shown(found[group, name]) if (group, name) in found else "" for name in names]
        count = max(found[group, name].count for name in names if (group, name) in found)
        lines.append(f"| {group.removeprefix('category ') or 'all'} | {count} | {' | '.join(cells)} |")
    options = {**about["options"], **result.setting.options}
    settings = ", ".join(f"{name} {value}" for name, value in options.items() if value not in (None, ""))
    return "\n".join(lines) + f"\n\nWith 95% intervals over prompts; {settings}."


def _limits(result: Result) -> str:
    """The prompts that are shown least, by the mean of each image's values."""
    told = []
    for name, values in result.by_image.items():
        if "_" in name:  # a part of another one
            continue
        prompts = result.made.prompts
        means = np.array([_mean(values[result.made.own == number]) for number in range(len(prompts))])
        order = [number for number in np.argsort(means, kind="stable") if np.isfinite(means[number])]
        worst = "; ".join(f"{prompts[number].text} ({means[number]:.2f})" for number in order[:WORST])
        told.append(f"Lowest {name}, of {len(order)} prompts: {worst}.")
    return "\n\n".join(told) or "No score of single images was asked for."


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")
