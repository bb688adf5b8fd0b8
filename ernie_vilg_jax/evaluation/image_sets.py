"""Sets of images: those of prompts, and real ones to compare them with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from ernie_vilg_jax import texts
from ernie_vilg_jax.data.manifests import MANIFEST
from ernie_vilg_jax.data.records import open_split
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.images import decode_image, encode_png, to_rgb
from ernie_vilg_jax.paths import local
from ernie_vilg_jax.pipeline.prompts import Prompt
from ernie_vilg_jax.rows import separated_rows

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
NAMES = "images.csv"
"""In a folder of images: `file,id` lines that say which prompt each file is of, if the names do not."""


class ImageSet(Protocol):
    """Images by their numbers."""

    def __len__(self) -> int: ...

    def read(self, number: int) -> bytes:
        """The encoded image."""
        ...

    def name(self, number: int) -> str:
        """Its name, for messages."""
        ...


def pixels(images: ImageSet, number: int) -> np.ndarray:
    """An image as uint8 [H, W, 3]."""
    if isinstance(images, Arrays):
        return images.pixels(number)
    try:
        return np.asarray(to_rgb(decode_image(images.read(number))))
    except ValueError as error:
        raise UserError(f"{images.name(number)} cannot be read: {error}") from error


@dataclass(frozen=True)
class Files:
    """Images in files."""

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def name(self, number: int) -> str:
        return str(self.files[number])

    def read(self, number: int) -> bytes:
        with file_errors(self.files[number]):
            return self.files[number].read_bytes()


class Arrays:
    """Images in memory: uint8 [N, H, W, 3]."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def name(self, number: int) -> str:
        return f"image {number}"

    def pixels(self, number: int) -> np.ndarray:
        return self._images[number]

    def read(self, number: int) -> bytes:
        return encode_png(Image.fromarray(self._images[number]))


@dataclass(frozen=True)
class OfPrompts:
    """Images and the prompt of each.

    Attributes:
      images: [N].
      prompts: all prompts [M].
      own: [N], the index of each image's prompt.
    """

    images: ImageSet
    prompts: tuple[Prompt, ...]
    own: np.ndarray


def of_prompts(folder: str | Path, prompts: Sequence[Prompt], flag: str = "images") -> OfPrompts:
    """The images of prompts in a folder: `ID.png`, `ID_0.png`, `ID_1.png`, ..., `ID/any.png`, or named in `images.csv`.

    Raises UserError if a prompt has no image, and if an image is of no prompt.
    """
    root = local(folder, flag)
    found = image_files(root, flag)
    by_id = {prompt.id: number for number, prompt in enumerate(prompts)}
    named = _named(root, by_id)
    own = [named.get(file.relative_to(root).as_posix(), _prompt_of(file, root, by_id)) for file in found]
    strange = [file for file, number in zip(found, own, strict=True) if number < 0]
    if strange:
        raise UserError(
            f"--{flag}={folder}: {len(strange)} of {len(found)} images are of no prompt, such as "
            f"{strange[0].relative_to(root)}; name them ID.png or ID_0.png by the ids of the prompts (such as "
            f"{prompts[0].id}), or list them in {NAMES} with the columns file,id"
        )
    missing = sorted(set(range(len(prompts))) - set(own))
    if missing:
        raise UserError(
            f"--{flag}={folder}: {len(missing)} of {len(prompts)} prompts have no image, such as "
            f"{prompts[missing[0]].id}; make them, or give a file of prompts without them"
        )
    return OfPrompts(Files(tuple(found)), tuple(prompts), np.array(own))


def image_files(root: Path, flag: str) -> list[Path]:
    """All images under a folder, sorted by name. Raises UserError if there are none."""
    if not root.is_dir():
        raise UserError(f"--{flag}={root}: there is no such folder")
    files = (file for file in root.rglob("*") if file.suffix.lower() in SUFFIXES)
    found = sorted(file for file in files if not any(part.startswith(".") for part in file.relative_to(root).parts))
    found = [file for file in found if file.name != "grid.png"]
    if not found:
        raise UserError(f"--{flag}={root}: there are no images in it ({', '.join(SUFFIXES)})")
    return found


def _prompt_of(file: Path, root: Path, by_id: dict[str, int]) -> int:
    """The index of the prompt that a file is named after; -1 if there is none."""
    stem, _, number = file.stem.rpartition("_")
    names = [file.stem, *([stem] if number.isdecimal() else []), *([] if file.parent == root else [file.parent.name])]
    return next((by_id[name] for name in names if name in by_id), -1)


def _named(root: Path, by_id: dict[str, int]) -> dict[str, int]:
    file = root / NAMES
    if not file.is_file():
        return {}

    def check(names: set[str]) -> None:
        if not {"file", "id"} <= names:
            raise UserError(f"{file}: the first line must be file,id")

    unknown = -1
    rows = separated_rows(texts.decode(file.read_bytes(), str(file)), str(file), check)
    return {row["file"]: by_id.get(row.get("id", ""), unknown) for _, row in rows}


class Prepared:
    """The images of a split of prepared data."""

    def __init__(self, folder: Path, split: str) -> None:
        self._records = open_split(folder, split, images=True)

    def __len__(self) -> int:
        return len(self._records)

    def name(self, number: int) -> str:
        return f"the image of record {self._records[number].id}"

    def read(self, number: int) -> bytes:
        return self._records[number].image


def reference_of(path: str | Path, split: str, flag: str = "reference") -> ImageSet:
    """Real images: a folder of files, or a split of prepared data."""
    root = local(path, flag)
    if (root / MANIFEST).is_file():
        return Prepared(root, split)
    return Files(tuple(image_files(root, flag)))
