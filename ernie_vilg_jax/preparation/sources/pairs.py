"""What sources of people's own pictures share: captions in either language, checks of images, reports of mismatches."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import encode_png
from ernie_vilg_jax.knowledge.words import LANGUAGES, language_of
from ernie_vilg_jax.preparation.sources import Licence

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_NEUTRAL_KEYS = ("caption", "captions", "text")


@dataclasses.dataclass
class Options:
    """What sources of files have in common.

    Attributes:
      path: where the files are.
      on_mismatch: "error", or "skip": leave out, with a report, images without captions, captions without images and
        images that cannot be decoded.
      short_side: shrink images whose shorter side is larger, in pixels; 0 = keep the files' bytes.
      licence: SPDX identifier of the pictures, for the records.
    """

    path: str = ""
    on_mismatch: str = "error"
    short_side: int = 0
    licence: str = ""
    name: str = dataclasses.field(default="", init=False)

    def __post_init__(self) -> None:
        if self.on_mismatch not in ("error", "skip"):
            raise UserError(f"source {self.name!r}: on_mismatch={self.on_mismatch!r} must be 'error' or 'skip'")

    def licences(self) -> list[Licence]:
        return [Licence(f"images of {Path(self.path).name}", self.licence or "yours to know", "", "")]


def sort_captions(fields: Mapping[str, Any]) -> dict[str, list[str]]:
    """Captions of a caption file's row: "zh" and "en" as they say, "caption" or "text" by their characters.

    Each value is a string or a list of strings; blanks are dropped.
    """
    captions: dict[str, list[str]] = {}

    def add(language: str | None, value: Any) -> None:
        texts = [] if value is None else value if isinstance(value, list) else [value]
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"a caption must be text, not {type(text).__name__}")
            if text.strip():
                captions.setdefault(language or language_of(text), []).append(text.strip())

    for language in LANGUAGES:
        add(language, fields.get(language))
    for key in _NEUTRAL_KEYS:
        add(None, fields.get(key))
    return captions


def objects_of(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The row's own "objects" (see `Record`), if any."""
    return fields["objects"] if isinstance(fields.get("objects"), list) else []


def concept_of(source: str, fields: Mapping[str, Any], captions: Mapping[str, list[str]]) -> str:
    """The split unit: the row's own "concept", else its first caption, so that equal captions stay on one side."""
    given = fields.get("concept")
    if given:
        return f"{source}/{given}"
    caption = next(captions[language][0] for language in LANGUAGES if captions.get(language))
    return f"{source}/{caption.replace('+', ' ').strip().lower()}"


def report(source: str, problems: Mapping[str, Sequence[str]], on_mismatch: str, remedy: str) -> None:
    """Raises a UserError that lists the first few of each problem with counts, or logs the same for "skip"."""
    found = {what: names for what, names in problems.items() if names}
    if not found:
        return
    found_problems = []
    for what, names in found.items():
        found_problems.append(f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    text = f"{source}: {'; '.join(found_problems)}"
    if on_mismatch != "skip":
        raise UserError(f"{text}: {remedy}, or leave them out with --on_mismatch=skip")
    logging.warning("%s: left out", text)


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height) after decoding every pixel; ValueError when that fails."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return image.size
    except Exception as error:  # Pillow raises many types on damaged files
        raise ValueError(str(error) or type(error).__name__) from error


def decodable(data: bytes) -> bool:
    try:
        image_size(data)
    except ValueError:
        return False
    return True


def shrink(data: bytes, short_side: int) -> bytes:
    """The image with its shorter side at most `short_side`, as PNG; the bytes themselves when it is small enough."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
        scale = short_side / min(image.size)
        if scale >= 1:
            return data
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.convert("RGBA" if "A" in image.getbands() or "transparency" in image.info else "RGB")
        return encode_png(image.resize(size, Image.Resampling.LANCZOS))


def make_record(
    source: str,
    id: str,
    where: str,
    data: bytes,
    captions: dict[str, list[str]],
    concept: str,
    *,
    licence: str,
    short_side: int,
    objects: Iterable[Mapping[str, Any]] = (),
    remedy: str = "mend or remove it, or leave such files out with --on_mismatch=skip",
) -> Record:
    """A record of someone's own picture; `where` and `remedy` make the error of an undecodable one."""
    try:
        if short_side:
            data = shrink(data, short_side)
        width, height = image_size(data)
    except Exception as error:  # see image_size
        raise UserError(f"{where} cannot be decoded as an image ({error}): {remedy}") from error
    return Record(
        id=id,
        image=data,
        captions=captions,
        concept=concept,
        source=source,
        objects=[dict(item) for item in objects],
        licence=licence,
        width=width,
        height=height,
    )
