"""The tokenizer of prepared data: trained on their captions, or that of a model to be fine-tuned, or of a BERT."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import logging

from ernie_vilg_jax.config import plain
from ernie_vilg_jax.data import records
from ernie_vilg_jax.data.manifests import MANIFEST
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.data.tokenizers import (
    FILES,
    BertTokenizer,
    Tokenizer,
    given_tokenizer,
    tokenizer_files,
    tokenizer_sha256,
    train_sentencepiece,
)
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.knowledge.words import LANGUAGES
from ernie_vilg_jax.paths import is_url

_SAMPLE = 2000
"""Number of captions for checking a vocabulary."""
_MANY_UNKNOWN = 0.2


def chosen_tokenizer(settings: Any) -> Tokenizer | None:
    """The tokenizer that `config.tokenizer` names, None if it is to be trained on the captions.

    Its `path` is anything that `given_tokenizer` takes, or a run, a checkpoint, its item tokenizer/, or prepared data.
    """
    folder = Path(settings.path).expanduser() if settings.path and not is_url(settings.path) else None
    if folder is None or not folder.is_dir() or any((folder / name).is_file() for name in FILES):
        return given_tokenizer(settings)
    if (folder / MANIFEST).is_file():
        return given_tokenizer(type(settings)({**settings, "path": str(folder / "tokenizer")}))
    from ernie_vilg_jax import checkpointing  # imports jax

    item = folder.name == "tokenizer" and (folder.parent / "_CHECKPOINT_METADATA").is_file()
    place = folder.parent if item else folder
    tokenizer = checkpointing.read_tokenizer(checkpointing.find(place, "config.tokenizer.path"))
    kind = "bert" if isinstance(tokenizer, BertTokenizer) else "sentencepiece"
    if kind != settings.kind:
        raise UserError(
            f"--config.tokenizer.path={settings.path} has a tokenizer of the kind {kind}: give "
            f"--config.tokenizer.kind={kind} with it"
        )
    return tokenizer


def prepare_tokenizer(
    config: Any, directory: Path, entries: Mapping[str, dict[str, Any]], given: Tokenizer | None
) -> dict[str, Any]:
    """Writes tokenizer/: the given one, or one trained on the captions. Returns its entry of the manifest."""
    shards = [directory / name for name, entry in entries.items() if name.startswith("train-") and entry["records"]]
    captions = (text for shard in shards for record in records.read_shard(shard) for text in _texts(record))
    if given is not None:
        _tell_unknown(given, itertools.islice(captions, _SAMPLE), config.tokenizer.path)
    tokenizer = given or train_sentencepiece(captions, config.tokenizer.vocab_size, config.tokenizer.max_length)
    tokenizer.save(directory / "tokenizer")
    return {
        "settings": plain(config.tokenizer),
        "vocab_size": tokenizer.vocab_size,
        "fingerprint": tokenizer_sha256(tokenizer_files(directory / "tokenizer")),
    }


def _tell_unknown(tokenizer: Tokenizer, captions: Iterable[str], path: str) -> None:
    """Logs if a vocabulary lacks much of the captions: the languages probably differ."""
    ids = [number for text in captions for number in tokenizer.pieces(text)[0]]
    unknown = sum(map(tokenizer.is_unknown, ids))
    if unknown > _MANY_UNKNOWN * len(ids):
        logging.warning(
            "the vocabulary of %s does not know %.0f%% of the words in the captions: take one of their language",
            *(path, 100 * unknown / len(ids)),
        )


def _texts(record: Record) -> Iterator[str]:
    for language in LANGUAGES:
        yield from record.captions.get(language, ())
        yield from record.keywords.get(language, ())
