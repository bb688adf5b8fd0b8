"""The interface of all tokenizers, and their files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from etils import epath

from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.errors import file_errors

PART_OF_SPEECH_SYMBOLS = ("[n]", "[v]", "[a]", "[m]", "[q]", "[r]")
"""Reserved pieces that textual knowledge puts before words: noun, verb, adjective, numeral, quantifier, pronoun."""

SETTINGS = "tokenizer.json"
MODEL = "sentencepiece.model"
VOCABULARY = "vocab.txt"
FILE_OF_KIND = {"sentencepiece": MODEL, "bert": VOCABULARY}
"""The file of a tokenizer of each kind, beside its settings."""
FILES = sorted((SETTINGS, *FILE_OF_KIND.values()))
"""All possible files of a tokenizer."""


class Tokenizer(Protocol):
    """The interface of a tokenizer for the loader, the trainer and the pipeline.

    "[SEP]" or "[n]" in the text is spelt out, and never becomes a special token.
    """

    vocab_size: int
    """Rows of its embedding: one more than the largest id."""
    max_length: int
    pad_id: int
    symbol_ids: dict[str, int]
    """Part of speech ("n", "v", ...) -> id of its special token; empty if the vocabulary has no room for them."""

    def pieces(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """All tokens of the text, without begin and end tokens and uncut: ids, and [start, end) of each in characters.

        A token without a character of the text (the space before the first word) has an empty span.
        """
        ...

    def frame(self, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """(ids [L] int32, mask [L] bool) of the first L - 2 `ids`, between the begin and end tokens, padded."""
        ...

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray, str]:
        """(ids [L] int32, mask [L] bool, the text that did not fit, or "")."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids, without special tokens."""
        ...

    def is_unknown(self, number: int) -> bool:
        """Whether an id of `pieces` is for text outside the vocabulary: unknown, or spelt in bytes."""
        ...

    def save(self, directory: str | Path) -> None:
        """Writes everything that `load_tokenizer(directory)` needs."""
        ...


def padded(ids: list[int], length: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    row = np.full(length, pad_id, np.int32)
    row[: len(ids)] = ids
    return row, np.arange(length) < len(ids)


def write_files(folder: Path, kind: str, content: bytes, settings: Mapping[str, Any]) -> None:
    """The two files of a tokenizer: its settings, and `content` under the name of its kind."""
    text = json.dumps({"kind": kind, **settings}, sort_keys=True) + "\n"
    with file_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE_OF_KIND[kind]).write_bytes(content)
        (folder / SETTINGS).write_text(text)


def tokenizer_files(folder: Path | epath.Path) -> dict[str, bytes]:
    """The FILES that exist in a folder."""
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}


def tokenizer_sha256(files: Mapping[str, bytes]) -> str:
    """A digest of the tokenizer's files in a folder; the manifest of prepared data has it."""
    return digest([[name, hashlib.sha256(files[name]).hexdigest()] for name in FILES if name in files])
