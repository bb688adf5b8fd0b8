"""An evaluation: images of prompts, for each guidance scale of a sweep, and all scores of each."""

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation import metrics
from ernie_vilg_jax.evaluation.features import Network
from ernie_vilg_jax.evaluation.image_sets import ImageSet, OfPrompts
from ernie_vilg_jax.evaluation.metrics import Evidence, Reference, Score
from ernie_vilg_jax.paths import write_atomically
from ernie_vilg_jax.sharding import processes
from ernie_vilg_jax.version import __version__

RESULTS = "results.json"
BY_IMAGE = "by_image.csv"


@dataclass(frozen=True)
class Setting:
    """One point of a sweep.

    Attributes:
      name: of its images' folder, such as "guidance_scale=3.0".
      options: of sampling that differ from point to point.
      images: makes them, or finds them.
    """

    name: str
    options: Mapping[str, Any]
    images: Callable[[], OfPrompts]


@dataclass(frozen=True)
class Result:
    """All scores of a setting.

    Attributes:
      by_image: values [N] of single images, by the names of scores that have them.
    """

    setting: Setting
    made: OfPrompts
    scores: tuple[Score, ...]
    by_image: Mapping[str, np.ndarray]


def evaluate(
    settings: Sequence[Setting],
    names: Sequence[str],
    networks: Mapping[str, Network],
    reference: ImageSet | None,
    output: Path,
    about: Mapping[str, Any],
    cache: Path,
) -> list[Result]:
    """Scores the images of all settings and writes `output/results.json` and `output/by_image.csv`.

    Args:
      names: of metrics.
      networks: all that they need (`needed`).
      about: what was evaluated and how, for the file.
      cache: folder of features.
    """
    results = []
    real = None if reference is None else Reference(reference, networks, cache)
    for setting in settings:
        made = setting.images()
        evidence = Evidence(made, real, networks, cache)
        scores = metrics.judge(names, evidence)
        results.append(Result(setting, made, tuple(scores), evidence.by_image))
        for score in scores:
            if not score.group:
                logging.info("%s: %s", setting.name or "images", told(score))
    if processes.index() == 0:
        found = {
            "version": __version__,
            **about,
            "networks": {name: network.fingerprint for name, network in networks.items()},
            "results": [
                {
                    "setting": dict(result.setting.options),
                    "images": len(result.made.own),
                    "prompts": len(result.made.prompts),
                    "scores": [dataclasses.asdict(score) for score in result.scores],
                }
                for result in results
            ],
        }
        output.mkdir(parents=True, exist_ok=True)
        write_atomically(output / RESULTS, json.dumps(found, ensure_ascii=False, indent=1).encode())
        write_atomically(output / BY_IMAGE, _by_image(results).encode())
    return results


def _by_image(results: Sequence[Result]) -> str:
    """A table with the values of each image."""
    names = list(dict.fromkeys(name for result in results for name in result.by_image))
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["setting", "image", "id", "prompt", "language", "category", *names])
    for result in results:
        for number, own in enumerate(result.made.own):
            prompt = result.made.prompts[own]
            values = [result.by_image[name][number] if name in result.by_image else np.nan for name in names]
            told = ["" if np.isnan(value) else f"{value:.6g}" for value in values]
            image = result.made.images.name(number)
            table.writerow(
                [result.setting.name, image, prompt.id, prompt.text, prompt.language, prompt.category, *told]
            )
    return file.getvalue()


def needed(names: Sequence[str], with_reference: bool, flag: str = "metrics") -> list[str]:
    """The networks that metrics need. Raises UserError for an unknown metric, and for one that lacks real images."""
    chosen = metrics.chosen(names, flag)
    for name, metric in chosen.items():
        if metric.compares and not with_reference:
            raise UserError(
                f"--{flag}: {name} compares with real images; give a folder of them, or prepared data, with "
                "--reference="
            )
    return list(dict.fromkeys(network for metric in chosen.values() for network in metric.networks))


def told(score: Score) -> str:
    """A score in one line."""
    digits = 1 if abs(score.value) >= 10 else 3
    span = f"{score.low:.{digits}f} to {score.high:.{digits}f}"
    return f"{score.metric} {score.value:.{digits}f} ({span}, {score.count} images)"
