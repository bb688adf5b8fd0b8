"""Tables of captions: one JSON object per line, or comma-separated values with a header line.

Names of columns may be in any case. Every error is a UserError that names the file and the line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ernie_vilg_jax import texts
from ernie_vilg_jax.errors import UserError

FILE_KEYS = ("file", "file_name", "image")
"""Names of the column with the file name of the image."""
CAPTION_KEYS = ("zh", "en", "caption", "captions", "text")
NAMES = ("captions.jsonl", "metadata.jsonl", "captions.csv", "metadata.csv")
"""File names of tables, in this order; metadata.* is the name in Hugging Face's ImageFolder."""


def read_table(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, row) of each row: `where` for messages, the row by the names of its columns in lower case."""
    text = texts.decode(file.read_bytes(), str(file))
    return _json_rows(text, str(file)) if file.suffix == ".jsonl" else _comma_rows(text, str(file))


def _json_rows(text: str, file: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(texts.lines(text), 1):
        where = f"{file}, line {number}"
        if not line.strip():
            continue
        try:
            row = texts.parse_json(line)
        except ValueError as error:
            raise UserError(f"{where}: not JSON that can be used ({error}); correct it there") from error
        if not isinstance(row, dict):
            raise UserError(f'{where}: each line must be an object such as {{"file": "1.jpg", "en": "a cat"}}')
        yield where, _named(row.items(), where)


def _comma_rows(text: str, file: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text), strict=True)
    header: list[str] | None = None
    while True:
        where = f"{file}, line {reader.line_num + 1}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise UserError(
                f"{where}: not comma-separated values ({error}); a quote that is opened there is not closed, or quotes "
                "inside of a quoted text are not doubled"
            ) from error
        if row is None:
            break
        if header is None:
            header = [texts.clean(name) for name in row]
            _check_header(header, file)
        elif any(cell.strip() for cell in row):
            if any(cell.strip() for cell in row[len(header) :]):
                raise UserError(
                    f"{where}: {len(row)} values where the first line names {len(header)} columns; put a text that "
                    "holds commas in double quotes"
                )
            yield where, _named(zip(header, row, strict=False), where)
    if header is None:
        _check_header([], file)


def _check_header(header: list[str], file: str) -> None:
    names = set(_named(((name, None) for name in header if name), f"{file}, line 1"))
    for keys in (FILE_KEYS, CAPTION_KEYS):
        if not names & set(keys):
            raise UserError(
                f"{file}: the first line must name the columns, such as file,zh,en, with commas between them; none of "
                f"{', '.join(keys)} is there"
            )


def _named(items: Iterable[tuple[str, Any]], where: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in items:
        if name.lower() in row:
            raise UserError(
                f"{where}: {name!r:.60} is there twice; keep one, several captions as a list in captions.jsonl"
            )
        row[name.lower()] = value
    return row
