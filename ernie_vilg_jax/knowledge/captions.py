"""Captions that are added: names of objects appended, captions by a model, translations.

As in the paper, the class of a salient object that a caption leaves out is appended to it, and part of the captions are
replaced by a captioner's. English captions of the training data are machine-translated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.knowledge import registry
from ernie_vilg_jax.knowledge.text import LANGUAGES, Word


class Captioner(Protocol):
    """Says what a picture shows. Equal pictures and ids give equal captions."""

    def captions(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[dict[str, str]]:
        """Language -> caption for each picture; {} where it has nothing to say. `ids` are those of the records."""
        ...


class Translator(Protocol):
    """English to Chinese."""

    def translate(self, texts: Sequence[str]) -> list[str]:
        """One translation for each text, in order."""
        ...


CAPTIONERS: dict[str, str] = {
    "transformers": "ernie_vilg_jax.knowledge.captioning:HubCaptioner",
    "file": "ernie_vilg_jax.knowledge.captions:CaptionFile",
}
"""Captioner name -> "module:class"."""

TRANSLATORS: dict[str, str] = {"transformers": "ernie_vilg_jax.knowledge.translation:HubTranslator"}
"""Translator name -> "module:class"."""


def make_captioner(name: str, **options: Any) -> Captioner:
    """Builds a captioner of `CAPTIONERS` from its options."""
    return registry.build("captioner", CAPTIONERS, name, options)


def make_translator(name: str, **options: Any) -> Translator:
    """Builds a translator of `TRANSLATORS` from its options."""
    return registry.build("translator", TRANSLATORS, name, options)


def append_objects(caption: str, words: Sequence[Word], names: Sequence[str], language: str) -> tuple[str, list[Word]]:
    """Appends names of objects: "一张桌子。" and 碗 give "一张桌子,碗"; "a table." and bowl give "a table, bowl".

    Args:
      caption: the text. Spaces and full stops at its end give way to the first comma.
      words: its key words.
      names: what to append, in this order; repeated and blank ones are left out.
      language: "zh" joins with ",", others with ", ".

    Returns:
      The longer caption and its key words; each appended name is one noun, also when it has several words.
    """
    new = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not new:
        return caption, list(words)
    text = caption.rstrip(" \t\r\n.,;。．，；、")
    kept = [Word(*word) for word in words if word[1] <= len(text)]
    for name in new:
        if text.strip():
            text += "," if language == "zh" else ", "
        kept.append(Word(len(text), len(text) + len(name), "n"))
        text += name
    return text, kept


class CaptionFile:
    """Captions made elsewhere: a JSON Lines file of {"id": ..., "zh": ..., "en": ...}, either language optional."""

    def __init__(self, path: str) -> None:
        self._captions: dict[str, dict[str, str]] = {}
        fix = 'each line must be {"id": record id, "zh": caption, "en": caption}, with one of the captions or both'
        try:
            with Path(path).open(encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        self._add(line, f"line {number} of caption file {path}", fix)
        except OSError as error:
            raise UserError(f"caption file {path} cannot be read ({error.strerror}): {fix}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"caption file {path} is not UTF-8 ({error}): {fix}") from error

    def _add(self, line: str, where: str, fix: str) -> None:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where} is not JSON ({error}): {fix}") from error
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            raise UserError(f"{where} has no id: {fix}")
        if row["id"] in self._captions:
            raise UserError(f"{where} repeats the id {row['id']!r}: keep one line for each record")
        captions = {language: row[language] for language in LANGUAGES if row.get(language)}
        if not captions or not all(isinstance(text, str) and text.strip() for text in captions.values()):
            raise UserError(f"{where} has no caption, or one that is not text: {fix}")
        self._captions[row["id"]] = {language: text.strip() for language, text in captions.items()}

    def captions(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[dict[str, str]]:
        """The captions of each id; {} for those that the file does not have."""
        return [dict(self._captions.get(id, {})) for id in ids]
