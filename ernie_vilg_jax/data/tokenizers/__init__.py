"""Text to token ids: SentencePiece trained on the prepared captions, or the WordPiece vocabulary of a BERT.

Nothing here imports jax. Ids are padded to `max_length`; the mask is True on real tokens. Captions of any language go
through one vocabulary.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ernie_vilg_jax.data.manifests import MANIFEST, read_manifest
from ernie_vilg_jax.data.tokenizers.base import (
    FILE_OF_KIND,
    FILES,
    PART_OF_SPEECH_SYMBOLS,
    SETTINGS,
    Tokenizer,
    tokenizer_files,
    tokenizer_sha256,
)
from ernie_vilg_jax.data.tokenizers.sentencepieces import SentencePieceTokenizer, train_sentencepiece
from ernie_vilg_jax.data.tokenizers.vocabularies import Vocabulary, read_vocabulary
from ernie_vilg_jax.data.tokenizers.wordpiece import BertTokenizer
from ernie_vilg_jax.errors import UserError, file_error
from ernie_vilg_jax.paths import local, reach

__all__ = [
    "FILES",
    "PART_OF_SPEECH_SYMBOLS",
    "BertTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "Vocabulary",
    "given_tokenizer",
    "load_tokenizer",
    "read_vocabulary",
    "tokenizer_files",
    "tokenizer_sha256",
    "train_sentencepiece",
]


def given_tokenizer(settings: Any) -> Tokenizer | None:
    """The tokenizer that `config.tokenizer` names, None if it is to be trained on the captions."""
    if settings.kind == "sentencepiece":
        return load_tokenizer(settings.path) if settings.path else None
    if settings.kind != "bert":
        raise UserError(f"config.tokenizer.kind={settings.kind!r} must be 'sentencepiece' or 'bert'")
    tokenizer = BertTokenizer(read_vocabulary(settings.path), settings.max_length)
    if tokenizer.vocab_size != settings.vocab_size:
        raise UserError(
            f"the vocabulary of {settings.path} has {tokenizer.vocab_size} tokens, but "
            f"config.tokenizer.vocab_size={settings.vocab_size}: set it to the vocabulary's size"
        )
    return tokenizer


def load_tokenizer(where: Any) -> Tokenizer:
    """Loads a tokenizer written by `save`.

    Args:
      where: the directory itself, or a config: then `tokenizer/` of `config.data.path`, with the config's max_length.
    """
    if isinstance(where, str | Path):
        folder, max_length = local(where, "config.tokenizer.path"), None
    else:
        read_manifest(where.data.path)  # raises a better error if the folder is not a prepared one
        folder, max_length = reach(where.data.path, "config.data.path") / "tokenizer", int(where.tokenizer.max_length)
    fix = "run the command that made it again"
    try:
        settings = json.loads((folder / SETTINGS).read_bytes())
        kind, length = settings["kind"], max_length or settings["max_length"]
        if kind not in FILE_OF_KIND or not isinstance(length, int):
            raise ValueError(f"kind {kind!r:.50} and max_length {length!r:.50} are not those of a tokenizer")
        content = (folder / FILE_OF_KIND[kind]).read_bytes()
        if max_length is not None:
            stated = read_manifest(str(folder.parent)).get("tokenizer", {}).get("fingerprint")
            if stated not in (None, tokenizer_sha256(tokenizer_files(folder))):
                raise ValueError(f"it is not the one that {folder.parent / MANIFEST} states")
        if kind == "sentencepiece":
            return SentencePieceTokenizer(content, length)
        return BertTokenizer(Vocabulary.of(content.decode(), settings, str(folder / SETTINGS)), length)
    except FileNotFoundError as error:
        missing = Path(error.filename or str(error)).name
        raise UserError(f"no tokenizer in {folder} ({missing} is missing): {fix}") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise file_error(error) or UserError(
            f"the tokenizer in {folder} is damaged ({str(error)[:200]}): {fix}"
        ) from error
