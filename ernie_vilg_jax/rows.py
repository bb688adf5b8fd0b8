"""Tables that people write: one JSON object per line, or values separated by commas or tabs under a header line.

Names of columns may be in any case. Every error is a UserError that names the file and the line.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ernie_vilg_jax import texts
from ernie_vilg_jax.errors import UserError

Row = tuple[str, Mapping[str, Any]]
"""Its place, for messages, and its values by the names of their columns in lower case."""


def json_rows(text: str, file: str, example: str) -> Iterator[Row]:
    """The rows of JSON lines; `example` is a line that would be right, for messages."""
    for number, line in enumerate(texts.lines(text), 1):
        where = f"{file}, line {number}"
        if not line.strip():
            continue
        try:
            row = texts.parse_json(line)
        except ValueError as error:
            raise UserError(f"{where}: not JSON that can be used ({error}); correct it there") from error
        if not isinstance(row, dict):
            raise UserError(f"{where}: each line must be an object such as {example}")
        yield where, _named(row.items(), where)


def separated_rows(
    text: str, file: str, check: Callable[[set[str]], None], *, separator: str = ",", quoted: bool = True
) -> Iterator[Row]:
    """The rows of separated values.

    Args:
      check: of the names of the columns; raises if a necessary one is missing. An empty file has none.
      quoted: whether values may be in double quotes, and then hold separators and lines.
    """
    how: dict[str, Any] = {} if quoted else {"quoting": csv.QUOTE_NONE}
    reader = csv.reader(io.StringIO(text), strict=True, delimiter=separator, **how)
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
            check(set(_named(((name, None) for name in header if name), where)))
        elif any(cell.strip() for cell in row):
            if any(cell.strip() for cell in row[len(header) :]):
                raise UserError(
                    f"{where}: {len(row)} values where the first line names {len(header)} columns; put a text that "
                    "holds commas in double quotes"
                )
            yield where, _named(zip(header, row, strict=False), where)
    if header is None:
        check(set())


def first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value of the first of the columns that the row has; None without one."""
    return next((row[name] for name in names if name in row), None)


def _named(items: Iterable[tuple[str, Any]], where: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in items:
        if name.lower() in row:
            raise UserError(
                f"{where}: {name!r:.60} is there twice; keep one, several captions as a list in captions.jsonl"
            )
        row[name.lower()] = value
    return row
