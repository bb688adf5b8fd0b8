"""Prompts in other languages, for a model that reads Chinese and English."""

import threading
import unicodedata

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

    def __init__(self, model: str) -> None:
        """`model`: a translator of `transformers` into English or Chinese, a folder or a name on the hub."""
        self._model = model
        self._translator: HubTranslator | None = None
        self._at_work = threading.Lock()

    def __call__(self, text: str) -> str:
        """The text, or its translation. UserError if the model cannot be read or returns nothing."""
        if not is_foreign(text):
            return text
        with self._at_work:
            if self._translator is None:
                try:
                    self._translator = HubTranslator(self._model)
                except UserError as error:
                    raise UserError(f"Prompts can be in Chinese or English only: {error}") from error
            translated = self._translator.translate([text])[0].strip()
        if not translated:
            raise UserError("The prompt could not be translated; write it in Chinese or English.")
        return translated
