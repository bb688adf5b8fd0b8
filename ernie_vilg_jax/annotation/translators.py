"""Translators: English captions of training data to Chinese, as in the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ernie_vilg_jax import registry


class Translator(Protocol):
    """English to Chinese."""

    def translate(self, texts: Sequence[str]) -> list[str]:
        """One translation for each text, in order."""
        ...


TRANSLATORS: dict[str, str] = {"transformers": "ernie_vilg_jax.pipeline.translate:HubTranslator"}
"""Translator name -> "module:class"."""


def make_translator(name: str, **options: Any) -> Translator:
    """Builds a translator of `TRANSLATORS` from its options."""
    return registry.build("translator", TRANSLATORS, name, options)
