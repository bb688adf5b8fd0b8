"""A folder of images (subfolders too) with captions, in one of three ways.

  captions.jsonl   one object a line: {"file": "cats/1.jpg", "zh": "一只猫", "en": ["a cat", "a small cat"]}
  captions.csv     a header line with the same names: file,zh,en
  1.txt            beside 1.jpg, one caption a line

"caption" may stand for "zh" and "en": a caption with Han characters is Chinese. A row may also give "concept" (what is
held out together; default: its first caption) and "objects" (see `Record`).
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ernie_vilg_jax.data.files import digest, file_sha256
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.sources import Key, pairs

_FILE_KEYS = ("file", "file_name", "image")


@dataclasses.dataclass(frozen=True)
class _Pair:
    file: str
    captions: dict[str, list[str]]
    concept: str
    objects: list[dict[str, Any]]


@dataclasses.dataclass
class FolderSource(pairs.Options):
    """Images below the folder `path`."""

    name: str = dataclasses.field(default="folder", init=False)

    @property
    def _folder(self) -> Path:
        folder = Path(self.path).expanduser()
        if not self.path or not folder.is_dir():
            raise UserError(f"source 'folder': path={self.path!r} is not a folder")
        return folder

    @functools.cached_property
    def _images(self) -> dict[str, Path]:
        found = (file for file in _files(self._folder) if file.suffix.lower() in pairs.IMAGE_SUFFIXES)
        images = {file.relative_to(self._folder).as_posix(): file for file in found if file.is_file()}
        if not images:
            raise UserError(f"{self._folder} holds no images ({', '.join(pairs.IMAGE_SUFFIXES)})")
        return dict(sorted(images.items()))

    @functools.cached_property
    def _pairs(self) -> list[_Pair]:
        rows: dict[str, Mapping[str, Any]] = {}
        for where, row in self._rows():
            file = next((row[key] for key in _FILE_KEYS if row.get(key)), None)
            if not isinstance(file, str):
                raise UserError(f"{where}: no file name; give it as {_FILE_KEYS[0]!r}")
            if file in rows:
                raise UserError(f"{where}: {file!r} has captions twice; join them in one row, as a list")
            rows[file] = row
        captions: dict[str, dict[str, list[str]]] = {}
        for file, row in rows.items():
            try:
                captions[file] = pairs.sort_captions(row)
            except ValueError as error:
                raise UserError(f"{self._folder}: the captions of {file!r} are not usable ({error})") from error
        skip = self.on_mismatch == "skip"
        undecodable = [f for f, path in self._images.items() if skip and not pairs.decodable(path.read_bytes())]
        problems = {
            "captions without an image": [file for file in rows if file not in self._images],
            "images without a caption": [file for file in self._images if not captions.get(file)],
            "images that cannot be decoded": undecodable,
        }
        pairs.report(str(self._folder), problems, self.on_mismatch, "complete or remove them")
        left_out = {name for names in problems.values() for name in names}
        return [
            _Pair(
                file,
                captions[file],
                pairs.concept_of(self.name, rows[file], captions[file]),
                pairs.objects_of(rows[file]),
            )
            for file in self._images
            if file not in left_out
        ]

    def _rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(where, row) of each captioned file."""
        lines, table = self._folder / "captions.jsonl", self._folder / "captions.csv"
        if lines.exists():
            for number, line in enumerate(_text(lines).splitlines(), 1):
                if line.strip():
                    yield f"{lines}, line {number}", _json_row(line, f"{lines}, line {number}")
        elif table.exists():
            reader = csv.DictReader(io.StringIO(_text(table)))
            if not set(reader.fieldnames or ()) & set(_FILE_KEYS):
                raise UserError(f"{table}: the first line must name the columns, such as file,zh,en")
            yield from ((f"{table}, line {reader.line_num}", row) for row in reader)
        else:
            images = {str(Path(file).with_suffix("")): file for file in self._images}
            for text in sorted(file for file in _files(self._folder) if file.suffix == ".txt"):
                stem = text.relative_to(self._folder).with_suffix("").as_posix()
                yield str(text), {"file": images.get(stem, f"{stem}.txt"), "caption": _text(text).splitlines()}

    def keys(self) -> Sequence[Key]:
        return [Key(f"{self.name}/{pair.file}", pair.concept) for pair in self._pairs]

    def record(self, index: int) -> Record:
        pair = self._pairs[index]
        path = self._images[pair.file]
        return pairs.make_record(
            self.name,
            f"{self.name}/{pair.file}",
            str(path),
            path.read_bytes(),
            pair.captions,
            pair.concept,
            licence=self.licence,
            short_side=self.short_side,
            objects=pair.objects,
        )

    def fingerprint(self) -> str:
        content = [
            [pair.file, file_sha256(self._images[pair.file]), pair.captions, pair.concept] for pair in self._pairs
        ]
        objects = [pair.objects for pair in self._pairs]
        return digest({"content": content, "objects": objects, "options": [self.short_side, self.licence]})


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder. A folder that cannot be read is an error: `rglob` would leave it out silently."""

    def refuse(error: OSError) -> None:
        raise error

    for place, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(place) / name for name in names)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8") from error


def _json_row(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise UserError(f'{where}: each line must be an object such as {{"file": "1.jpg", "en": "a cat"}}')
    return row
