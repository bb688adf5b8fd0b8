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
from ernie_vilg_jax.preparation.folders import Folder

_SAMPLE = 2000
"""Number of captions for checking a vocabulary."""
_MANY_UNKNOWN = 0.2
ENOUGH = 5_000_000
"""Captions that a vocabulary is trained on, at most about: the trainer holds them in memory."""


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
    config: Any, target: Folder, entries: Mapping[str, dict[str, Any]], given: Tokenizer | None
) -> dict[str, Any]:
    """Writes tokenizer/: the given one, or one trained on the captions. Returns its entry of the manifest."""
    if given is not None:
        _tell_unknown(given, itertools.islice(_captions(target, entries), _SAMPLE), config.tokenizer.path)
    tokenizer = given or train_sentencepiece(
        _captions(target, entries), config.tokenizer.vocab_size, config.tokenizer.max_length
    )
    with target.scratch() as scratch:
        tokenizer.save(scratch / "tokenizer")
        files = tokenizer_files(scratch / "tokenizer")
    for name in FILES:
        if name not in files:
            target.delete(f"tokenizer/{name}")
    for name, data in files.items():
        target.write(f"tokenizer/{name}", data)
    return {
        "settings": plain(config.tokenizer),
        "vocab_size": tokenizer.vocab_size,
        "fingerprint": tokenizer_sha256(files),
    }


def _captions(target: Folder, entries: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """Captions and key words of train shards, whole shards until there are `ENOUGH` captions.

    Records are in a shard by the hash of their id, so that a shard is a sample of all.
    """
    count = 0
    for name, entry in entries.items():
        if name.startswith("train-") and entry["records"] and count < ENOUGH:
            count += sum(entry["captions"].values())
            with target.local(name) as file:
                for record in records.read_shard(file):
                    yield from _texts(record)


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
