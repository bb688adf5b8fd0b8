"""Images of the same prompts and noise before and after fine-tuning, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ernie_vilg_jax.data.manifests import read_manifest
from ernie_vilg_jax.data.records import open_split
from ernie_vilg_jax.finetuning.origin import Origin
from ernie_vilg_jax.grid import labelled_grid, save_png
from ernie_vilg_jax.paths import write_atomically
from ernie_vilg_jax.pipeline import load
from ernie_vilg_jax.pipeline.prompts import Prompt

OWN, HELD_OUT, OLD = 16, 4, 8
"""Prompts of each kind in the grid, at most."""
GRID, PROMPTS = "grid.png", "prompts.txt"
SEED = 7


def shown_prompts(data: str | Path, old: Sequence[Prompt], source: str) -> list[tuple[str, str]]:
    """(kind, prompt): captions of own images that were trained on, of held-out ones, and old prompts."""
    found = []
    for kind, split, most in (("yours", "train", OWN), ("yours, held out", "holdout", HELD_OUT)):
        if not read_manifest(data)["splits"].get(split, {}).get("records"):
            continue
        records = open_split(data, split, verify=False)
        mine = [records[k] for start, stop in records.positions.get(source, ()) for k in range(start, stop)]
        captions = [[text for texts in one.captions.values() for text in texts] for one in mine]
        chosen = dict.fromkeys(texts[number % len(texts)] for number, texts in enumerate(captions))
        found += [(kind, text) for text in list(chosen)[:most]]
    return found + [("old", prompt.text) for prompt in old[:OLD]]


def show(origin: Origin, data: str | Path, output: str | Path, old: Sequence[Prompt], source: str) -> Path:
    """Writes `grid.png` with each prompt before and after, and `prompts.txt`; returns the grid's path.

    `old` are prompts that the model knew before; `source` is that of the user's images in the data.
    """
    folder = Path(output)
    prompts = shown_prompts(data, old, source)
    texts = [text for _, text in prompts]
    before, after = (load(path)(texts, seed=SEED) for path in (origin.path, folder / "best"))
    images: list[Image.Image] = [image for pair in zip(before, after, strict=True) for image in pair]
    labels = [label for kind, text in prompts for label in (f"{text}\nbefore", f"{text}\nafter ({kind})")]
    save_png(labelled_grid(images, labels, columns=8, cell=96), folder / GRID, {"seed": SEED, "prompts": texts})
    write_atomically(folder / PROMPTS, "".join(f"{text}\n" for text in texts).encode())
    return folder / GRID
