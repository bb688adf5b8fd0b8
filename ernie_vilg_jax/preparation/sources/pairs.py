"""Code shared by sources of users' images: captions in either language, checks of images."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ernie_vilg_jax import texts
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import decode_image, encode_png
from ernie_vilg_jax.knowledge.words import LANGUAGES, language_of
from ernie_vilg_jax.preparation.sources import Licence
from ernie_vilg_jax.preparation.sources.findings import UNDECODABLE, Findings
from ernie_vilg_jax.preparation.sources.tables import CAPTION_KEYS

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
OTHER_SUFFIXES = (
    *(".svg", ".gif", ".heic", ".heif", ".avif", ".bmp", ".tif", ".tiff", ".jxl", ".jp2", ".ico", ".psd"),
    *(".raw", ".dng", ".cr2", ".nef", ".exr", ".hdr", ".jfif", ".apng"),
)
"""Suffixes of unsupported image formats, for a clear message."""


@dataclasses.dataclass(frozen=True)
class Example:
    """An image with its captions; `place` is where its source finds the image."""

    id: str
    place: Any
    captions: dict[str, list[str]]
    concept: str
    objects: list[dict[str, Any]]


@dataclasses.dataclass
class PairSource:
    """A source of users' images and captions. A subclass has `examples`, `image_of` and `fingerprint`.

    Attributes:
      path: where the files are.
      on_mismatch: "error", or "skip": leave out, with a report, images without captions, captions without images and
        images that cannot be decoded.
      short_side: shrink images whose shorter side is larger, in pixels; 0 = keep the bytes of the files.
      licence: SPDX identifier of the images, for the records.
    """

    path: str = ""
    on_mismatch: str = "error"
    short_side: int = 0
    licence: str = ""
    name: str = dataclasses.field(default="", init=False)

    def __post_init__(self) -> None:
        if self.on_mismatch not in ("error", "skip"):
            raise UserError(f"source {self.name!r}: on_mismatch={self.on_mismatch!r} must be 'error' or 'skip'")

    def opened(self, part: str) -> contextlib.AbstractContextManager[Any]:
        """What `examples` reads a part from, while its images are read, too."""
        return contextlib.nullcontext()

    def examples(self, part: str, opened: Any, findings: Findings) -> Iterable[Example]:
        """Lists a part before any of its images is decoded; mismatches go into `findings`."""
        raise NotImplementedError

    def image_of(self, place: Any) -> tuple[str, bytes]:
        """What errors call the image at a place, and its bytes."""
        raise NotImplementedError

    def example(self, id: str, place: Any, fields: Fields) -> Example:
        concept = concept_of(self.name, fields.concept, fields.captions)
        return Example(f"{self.name}/{id}", place, fields.captions, concept, fields.objects)

    def read(self, part: str, findings: Findings) -> Iterator[Record]:
        with self.opened(part) as opened:
            examples = list(self.examples(part, opened, findings))
            findings.refuse(self.place(), self.on_mismatch)
            for example in examples:
                try:
                    record = self._record(example)
                except UndecodableImage:
                    if self.on_mismatch != "skip":
                        raise
                    findings.mismatch(UNDECODABLE, example.id.removeprefix(f"{self.name}/"))
                    continue
                findings.captions(example.captions)
                yield record

    def _record(self, example: Example) -> Record:
        return make_record(
            self.name,
            example.id,
            *self.image_of(example.place),
            example.captions,
            example.concept,
            licence=self.licence,
            short_side=self.short_side,
            objects=example.objects,
        )

    def place(self) -> str:
        return self.path

    def licences(self) -> list[Licence]:
        return [Licence(f"images of {Path(self.path).name}", self.licence or "yours to know", "", "")]


@dataclasses.dataclass(frozen=True)
class Fields:
    """The fields of an image, from a row of a table or its JSON."""

    captions: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    concept: str = ""
    objects: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def read_fields(row: Mapping[str, Any], where: str) -> Fields:
    """Raises UserError, naming `where`, for values that cannot be used."""
    try:
        concept = row.get("concept")
        if concept is not None and not isinstance(concept, str | int | float):
            raise ValueError(f"concept must be text, not {type(concept).__name__}")
        return Fields(sort_captions(row), "" if concept is None else str(concept), read_objects(row.get("objects")))
    except ValueError as error:
        raise UserError(f"{where}: {error}; correct it there") from error


def sort_captions(fields: Mapping[str, Any]) -> dict[str, list[str]]:
    """Captions of a caption file's row: "zh" and "en" by their name, "caption" or "text" by their characters.

    Each value is a string or a list of strings; blanks are dropped. ValueError for anything else.
    """
    captions: dict[str, list[str]] = {}
    for key in CAPTION_KEYS:
        value = fields.get(key)
        for text in [] if value is None else value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                raise ValueError(f"a caption must be text, not {type(text).__name__}")
            if reason := texts.fault(text):
                raise ValueError(f"a caption holds {reason}")
            if text := texts.clean(text):
                captions.setdefault(key if key in LANGUAGES else language_of(text), []).append(text)
    return captions


def join_captions(captions: dict[str, list[str]], more: Mapping[str, Sequence[str]]) -> None:
    """Adds the captions of another file for the same image, without duplicates."""
    for language, others in more.items():
        mine = captions.setdefault(language, [])
        mine += [text for text in others if text not in mine]


def read_objects(value: Any) -> list[dict[str, Any]]:
    """A row's objects as in `Record`, names as text or by language. ValueError if they are not of this form."""
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        raise ValueError(f"objects must be a list (in captions.jsonl), not {type(value).__name__}")
    objects = []
    for item in value:
        if not isinstance(item, dict) or "box" not in item:
            raise ValueError(
                'each of objects must be as {"name": {"en": "cat"}, "box": [x0, y0, x1, y1]}, not '
                f"{ascii(item)[:60]}"
            )
        box, score, name = item["box"], item.get("score", 1.0), item.get("name", {})
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise ValueError(f"the box {ascii(box)[:60]} is not four numbers")
        if min(box) < -_ROUNDING or max(box) > 1 + _ROUNDING:
            raise ValueError(f"the box {box} is not in fractions of the image, from 0 to 1: divide pixels by its size")
        if box[0] >= box[2] or box[1] >= box[3]:
            raise ValueError(f"the box {box} is empty: give its corners, [x0, y0, x1, y1]")
        if not _is_number(score):
            raise ValueError(f"the score {ascii(score)[:60]} is not a number")
        if isinstance(name, str):
            name = {language_of(name): name} if name.strip() else {}
        if not isinstance(name, dict) or not all(isinstance(word, str) for word in name.values()):
            raise ValueError(f"the name {ascii(name)[:60]} of an object is not text, nor text by language")
        objects.append({**item, "name": name})
    return objects


_ROUNDING = 0.01
"""Tolerance for a box outside of its image."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e12 < value < 1e12


def concept_of(source: str, given: str, captions: Mapping[str, list[str]]) -> str:
    """The split unit: the row's own "concept", else its first caption, so that equal captions stay on one side."""
    if given.strip():
        return f"{source}/{given}"
    caption = next(captions[language][0] for language in LANGUAGES if captions.get(language))
    return f"{source}/{caption.replace('+', ' ').strip().lower()}"


def check_name(name: str, where: str) -> None:
    """Raises UserError for a file name that is not UTF-8, which cannot be written into a record."""
    if texts.fault(name):
        raise UserError(f"{where}: the name {name!a} is not UTF-8; rename the file")


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height) of the upright image, after decoding every pixel; ValueError if that fails."""
    return decode_image(data).size


def shrink(data: bytes, short_side: int) -> bytes:
    """The image with its shorter side at most `short_side`, as PNG; the unchanged bytes if it is small enough."""
    from PIL import Image

    image = decode_image(data)
    scale = short_side / min(image.size)
    if scale >= 1:
        return data
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return encode_png(image.resize(size, Image.Resampling.LANCZOS))


class UndecodableImage(UserError):
    """An image that cannot be decoded."""


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
    """A record of a user's image; `where` and `remedy` are for the error of an undecodable one."""
    try:
        if short_side:
            data = shrink(data, short_side)
        width, height = image_size(data)
    except Exception as error:  # see image_size
        raise UndecodableImage(f"{where} cannot be decoded as an image ({error}): {remedy}") from error
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
