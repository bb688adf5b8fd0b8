"""What stands beside the shards of a prepared directory, for people: the licences and a preview."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ernie_vilg_jax.data import records
from ernie_vilg_jax.grid import labelled_grid
from ernie_vilg_jax.images import cut_square, decode_image, draw_crop, encode_png
from ernie_vilg_jax.preparation.folders import Folder
from ernie_vilg_jax.preparation.sources import Licence, Source


def write_licences(target: Folder, sources: Sequence[Source]) -> None:
    lines = ["# Licences of the works in these records", "", "| work | licence | author | where |", "|---|---|---|---|"]
    unique: dict[Licence, None] = {licence: None for source in sources for licence in source.licences()}
    lines += [f"| {w.work} | {w.licence} | {w.author} | {w.url} |" for w in unique]
    lines += ["", "Works under CC-BY require that this attribution accompanies copies and adaptations of them.", ""]
    target.write("LICENCES.md", "\n".join(lines).encode())


_FEW = 2
PREVIEW_SIZE = 96
"""Pixels of an image in `preview.png`."""


def write_preview(target: Folder, entries: Mapping[str, dict[str, Any]], *, whole: bool, count: int = 64) -> None:
    """`preview.png`: images as the loader crops them, with a caption of each language.

    They are from all train shards, or, if that would copy the data from a bucket (not `whole`), from the first few.
    """
    shards = {name: entry["records"] for name, entry in entries.items() if name.startswith("train-")}
    if not whole:
        shards = dict(list(shards.items())[:_FEW])
    total, first, chosen = sum(shards.values()), 0, []
    if not total:
        return
    wanted = sorted({place * total // count for place in range(count)})
    for name, size in shards.items():
        here = [place - first for place in wanted if first <= place < first + size]
        if here:
            with target.local(name) as file:
                chosen += records.read_shard(file, here)
        first += size
    from PIL import Image

    found = [decode_image(record.image) for record in chosen]
    cut = [cut_square(image, draw_crop(image.width, image.height, None), PREVIEW_SIZE) for image in found]
    labels = ["\n".join(texts[0][:60] for texts in record.captions.values() if texts) for record in chosen]
    sheet = labelled_grid([Image.fromarray(pixels) for pixels in cut], labels, columns=8, cell=PREVIEW_SIZE)
    target.write("preview.png", encode_png(sheet))
