"""Drawn scenes on disk: drawn once, read as memory-mapped arrays."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.evaluation.binding.drawing import MOST, SIDE, Scene
from ernie_vilg_jax.paths import write_atomically

RECIPE = "recipe.json"
"""Written last: a folder without it is incomplete, and is drawn again."""

RoundTrip = Callable[[np.ndarray], np.ndarray]
"""uint8 [B, SIDE, SIDE, 3] -> the same through an autoencoder."""


@dataclasses.dataclass(frozen=True)
class Scenes:
    """N scenes: image uint8 [N, SIDE, SIDE, 3], boxes fp32 [N, MOST, 4], noun and colour int16 [N, MOST].

    What the labels mean: `drawing.Scene`.
    """

    image: np.ndarray
    boxes: np.ndarray
    noun: np.ndarray
    colour: np.ndarray

    @classmethod
    def open(cls, folder: Path, recipe: dict[str, Any]) -> Scenes | None:
        """The finished scenes of a folder, or None if there are none.

        Raises UserError if they were drawn from another recipe.
        """
        if not (folder / RECIPE).is_file():
            return None
        if json.loads((folder / RECIPE).read_text()) != recipe:
            raise UserError(f"{folder} holds scenes of other options: name an empty folder, or use the same options")
        return cls(*(np.load(folder / f"{field.name}.npy", mmap_mode="r") for field in dataclasses.fields(cls)))


def draw_scenes(
    folder: Path, recipe: dict[str, Any], draw: Callable[[int], Scene], round_trip: RoundTrip | None = None
) -> Scenes:
    """Draws `recipe["scenes"]` scenes, by their number; the first, a fraction "round_trip", pass `round_trip`."""
    count = recipe["scenes"]
    kinds = {
        "image": (np.uint8, (SIDE, SIDE, 3)),
        "boxes": (np.float32, (MOST, 4)),
        "noun": (np.int16, (MOST,)),
        "colour": (np.int16, (MOST,)),
    }
    with file_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files = {
            name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (count, *shape))
            for name, (dtype, shape) in kinds.items()
        }
        for index in range(count):
            for name, value in draw(index)._asdict().items():
                files[name][index] = value
            if (index + 1) % 5000 == 0:
                logging.info("%d of %d scenes drawn", index + 1, count)
        if round_trip is not None:
            softened = round(recipe["round_trip"] * count)
            for start in range(0, softened, 32):
                part = slice(start, min(start + 32, softened))
                files["image"][part] = round_trip(files["image"][part])
            logging.info("%d scenes passed the autoencoder", softened)
        for array in files.values():
            array.flush()
        write_atomically(folder / RECIPE, json.dumps(recipe, indent=1).encode())
    scenes = Scenes.open(folder, recipe)
    assert scenes is not None
    return scenes
