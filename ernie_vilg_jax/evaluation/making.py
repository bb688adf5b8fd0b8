"""Images of many prompts, made in pieces that an interrupted evaluation does not make again."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.evaluation.image_sets import Files, OfPrompts
from ernie_vilg_jax.grid import save_png
from ernie_vilg_jax.paths import write_atomically
from ernie_vilg_jax.pipeline import Pipeline
from ernie_vilg_jax.pipeline.prompts import Prompt
from ernie_vilg_jax.pipeline.rerank import Scorer
from ernie_vilg_jax.progress import Progress
from ernie_vilg_jax.sharding import processes

BATCH = 16
"""Images of one call, candidates included: the largest batch of a pipeline."""
SETTINGS = "settings.json"

Make = Callable[[Sequence[str], int], list[Image.Image]]
"""(prompts, seed) -> an image of each prompt."""


def maker(pipe: Pipeline, options: Mapping[str, Any], rerank: Scorer | None = None) -> Make:
    """Makes images by a pipeline, with fixed options."""
    return lambda prompts, seed: pipe(prompts, seed=seed, rerank=rerank, **options)


def make_images(
    make: Callable[[], Make],
    prompts: Sequence[Prompt],
    folder: Path,
    settings: Mapping[str, Any],
    *,
    each: int = 1,
    seed: int = 0,
    candidates: int = 1,
) -> OfPrompts:
    """`each` images of each prompt as `folder/ID_0.png`, ...; those of an earlier, interrupted call are kept.

    The images of a call of the pipeline have a seed of their own, which depends on their place among all images alone,
    so that an image is the same whatever was there before, and whichever process makes it.

    Args:
      make: called once, and only if images are missing.
      settings: all that decides the images, for comparison with those of an earlier call.

    Raises UserError if the folder has images of other settings.
    """
    _same_settings(folder, {**settings, "seed": seed, "each": each}, prompts)
    wanted = [(number, place) for number in range(len(prompts)) for place in range(each)]
    files = [folder / f"{prompts[number].id}_{place}.png" for number, place in wanted]
    size = max(1, BATCH // candidates)
    progress, ready = Progress(len(wanted), "images"), None
    for call, start in enumerate(range(0, len(wanted), size)):
        rows = range(start, min(start + size, len(wanted)))
        if all(files[row].is_file() for row in rows):
            progress.kept(len(rows))
        elif call % processes.count() == processes.index():
            ready = ready or make()
            for row, image in zip(
                rows, ready([prompts[wanted[row][0]].text for row in rows], seed + call), strict=True
            ):
                save_png(image, files[row], image.info)
            progress.made(len(rows))
    processes.wait_for_all("images")
    return OfPrompts(Files(tuple(files)), tuple(prompts), np.array([number for number, _ in wanted]))


def _same_settings(folder: Path, settings: Mapping[str, Any], prompts: Sequence[Prompt]) -> None:
    """Stores the settings of a new folder; raises UserError if those of an old one differ."""
    told = {**settings, "prompts": digest([[prompt.id, prompt.text] for prompt in prompts])}
    file = folder / SETTINGS
    if file.is_file():
        try:
            old = json.loads(file.read_bytes())
        except ValueError:
            old = {}
        for name, value in json.loads(json.dumps(told)).items():
            if old.get(name) != value:
                raise UserError(
                    f"{folder} has images of another evaluation: {name} was {old.get(name)!r} and is {value!r} now; "
                    "give another --output, or delete that folder"
                )
    elif processes.index() == 0:
        with file_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(told, ensure_ascii=False, indent=1).encode())
