"""Prompts in other languages, for a model that reads Chinese and English."""

import threading
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.pipeline.translate import HubTranslator


def is_foreign(text: str) -> bool:
    """Whether a text has letters that neither Chinese nor English uses.

    French without an accent passes for English, and kanji alone for Chinese.
    """
    return any(not letter.isascii() and not _is_hanzi(letter) for letter in text if letter.isalpha())


def _is_hanzi(letter: str) -> bool:
    name = unicodedata.name(letter, "")
    return name.startswith(("CJK", "FULLWIDTH LATIN"))


class Languages:
    """Translates foreign prompts, and returns others unchanged. The model is loaded at the first foreign prompt."""

    def __init__(self, spec: str) -> None:
        """`spec`: a translator of `transformers` into English or Chinese, a folder or a name on the hub.

        Options of `HubTranslator` may follow, for models that take language codes: "MODEL,source=deu_Latn,
        target=eng_Latn". Raises UserError for other words.
        """
        self._model, *options = (part.strip() for part in spec.split(","))
        self._options: dict[str, Any] = {}
        for option in options:
            name, _, value = option.partition("=")
            if name not in ("prefix", "source", "target") or not value:
                raise UserError(
                    f"translate={spec}: {option!r} must be one of source=CODE, target=CODE and prefix=TEXT, after the "
                    "model"
                )
            self._options[name] = value
        self._translator: HubTranslator | None = None
        self._at_work = threading.Lock()

    def __call__(self, text: str) -> str:
        """The text, or its translation. UserError if the model cannot be read or returns nothing."""
        if not is_foreign(text):
            return text
        with self._at_work:
            if self._translator is None:
                try:
                    self._translator = HubTranslator(self._model, **self._options)
                except UserError as error:
                    raise UserError(f"Prompts can be in Chinese or English only: {error}") from error
            translated = self._translator.translate([text])[0].strip()
        if not translated:
            raise UserError("The prompt could not be translated; write it in Chinese or English.")
        return translated


Translate = Callable[[str], str]
"""A text, or its translation into Chinese or English."""

_named = cache(Languages)


def translation(value: str | Translate | None) -> Translate:
    """What the option `translate` means: a model's name (loaded once), a function of texts, or nothing."""
    return str if value is None else _named(value) if isinstance(value, str) else value
