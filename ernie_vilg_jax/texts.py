"""Text input from files and users: bytes to text, text to lines, JSON; and invalid text.

Every module that reads text from outside uses this one. Lines end at "\\n", "\\r\\n" or "\\r"; the other separators of
Python's `splitlines` (U+2028, U+0085, form feeds) are ordinary characters.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

from ernie_vilg_jax.errors import UserError

MARK = "\ufeff"
"""Byte order mark: some editors put it at the beginning of files, and concatenated files have it in the middle."""
_FAULT = re.compile("[\ud800-\udfff\0]")


def fault(text: str) -> str:
    """The reason why a string is not valid text, or "": NUL, or half of a character.

    Half of a character (a lone surrogate) comes from truncated escapes in JSON, and from bytes that are not UTF-8.
    """
    found = _FAULT.search(text)
    if not found:
        return ""
    if found[0] == "\0":
        return f"a NUL at character {found.start() + 1}"
    return f"half of a character (U+{ord(found[0]):04X}) at character {found.start() + 1}"


def decode(data: bytes, where: str) -> str:
    """The text of a file, its lines ended by "\\n". Raises UserError, naming `where`, if it is not UTF-8 text."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError(f"{where}, line {line}: there is a NUL, which no text holds: save it as UTF-8, or get it again")
    return text


def lines(text: str) -> list[str]:
    """The lines of a decoded text, without byte order marks at their beginning."""
    return [line.removeprefix(MARK) for line in text.removesuffix("\n").split("\n")]


def clean(text: str) -> str:
    """A text without spaces and byte order marks around it."""
    return text.strip().strip(MARK).strip()


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError if it is invalid, too deep, or has a duplicate key."""
    try:
        value = json.loads(text.removeprefix(MARK), object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, dict):
            rest += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            rest += item
        elif isinstance(item, str) and (reason := fault(item)):
            raise ValueError(f"{ascii(item)[:60]} holds {reason}")
    return value


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"it has the key {ascii(key)[:60]} twice")
        result[key] = value
    return result
