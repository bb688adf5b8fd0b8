"""Tables of captions: JSON lines, or comma-separated values with a header line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ernie_vilg_jax import texts
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.rows import Row, json_rows, separated_rows

FILE_KEYS = ("file", "file_name", "image")
"""Names of the column with the file name of the image."""
CAPTION_KEYS = ("zh", "en", "caption", "captions", "text")
NAMES = ("captions.jsonl", "metadata.jsonl", "captions.csv", "metadata.csv")
"""File names of tables, in this order; metadata.* is the name in Hugging Face's ImageFolder."""


def read_table(file: Path) -> Iterator[Row]:
    """(where, row) of each row: `where` for messages, the row by the names of its columns in lower case."""
    text = texts.decode(file.read_bytes(), str(file))
    if file.suffix == ".jsonl":
        return json_rows(text, str(file), '{"file": "1.jpg", "en": "a cat"}')
    return separated_rows(text, str(file), lambda names: _check_header(names, file))


def _check_header(names: set[str], file: Path) -> None:
    for keys in (FILE_KEYS, CAPTION_KEYS):
        if not names & set(keys):
            raise UserError(
                f"{file}: the first line must name the columns, such as file,zh,en, with commas between them; none of "
                f"{', '.join(keys)} is there"
            )
