"""Text to token ids: SentencePiece trained on the prepared captions, or a BERT vocabulary through `transformers`.

Nothing here imports jax. Ids are padded to `max_length`; the mask is True on real tokens. Captions of any language go
through one vocabulary.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from absl import logging

from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.data.manifests import MANIFEST, read_manifest
from ernie_vilg_jax.errors import UserError, file_error, file_errors
from ernie_vilg_jax.paths import local

PART_OF_SPEECH_SYMBOLS = ("[n]", "[v]", "[a]", "[m]", "[q]", "[r]")
"""Reserved pieces that textual knowledge puts beside words: noun, verb, adjective, numeral, quantifier, pronoun."""

_SETTINGS = "tokenizer.json"
_MODEL = "sentencepiece.model"
_VOCABULARY = "vocab.txt"
_FILES = {"sentencepiece": _MODEL, "bert": _VOCABULARY}
"""What a tokenizer of each kind has beside its settings."""
FILES = sorted((_SETTINGS, *_FILES.values()))
"""All that can be a tokenizer's."""


class Tokenizer(Protocol):
    """What the loader, the trainer and the pipeline need of a tokenizer."""

    vocab_size: int
    max_length: int
    pad_id: int
    symbol_ids: dict[str, int]
    """Part of speech ("n", "v", ...) -> id of its special token; empty where the vocabulary has no room for them."""

    def pieces(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """All tokens of the text, neither framed nor cut: ids, and [start, end) of each in the text's characters.

        A token that stands for nothing written (a space put before the first word) has an empty span.
        """
        ...

    def frame(self, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """(ids [L] int32, mask [L] bool) of the first L - 2 `ids`, between the begin and end tokens, padded."""
        ...

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray, str]:
        """(ids [L] int32, mask [L] bool, the text that did not fit: "" when all did)."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids, special tokens left out."""
        ...

    def save(self, directory: str | Path) -> None:
        """Writes all that `load_tokenizer(directory)` needs."""
        ...


def _pad(ids: list[int], length: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    padded = np.full(length, pad_id, np.int32)
    padded[: len(ids)] = ids
    return padded, np.arange(length) < len(ids)


class SentencePieceTokenizer:
    """A byte-pair model with ids pad 0, unknown 1, begin 2, end 3; bytes stand in for characters it never saw."""

    def __init__(self, model: bytes, max_length: int) -> None:
        import sentencepiece

        if max_length < 3:
            raise UserError(f"config.tokenizer.max_length={max_length} must be at least 3 (begin, one token, end)")
        if not model:  # sentencepiece takes it, and then knows nothing
            raise ValueError(f"{_MODEL} is empty")
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        if min(self._processor.pad_id(), self._processor.bos_id(), self._processor.eos_id()) < 0:
            raise ValueError(f"{_MODEL} lacks a pad, begin or end token")
        self.max_length = max_length
        self.vocab_size = self._processor.get_piece_size()
        self.pad_id = self._processor.pad_id()
        unknown = self._processor.unk_id()
        ids = {symbol[1:-1]: self._processor.piece_to_id(symbol) for symbol in PART_OF_SPEECH_SYMBOLS}
        self.symbol_ids = ids if unknown not in ids.values() else {}

    def __reduce__(self) -> tuple[Any, ...]:
        return SentencePieceTokenizer, (self._model, self.max_length)

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray, str]:
        room = self.max_length - 2
        ids = self._processor.encode(text)
        cut = ""
        if len(ids) > room:
            # Byte pieces of one character decode only together: grow what is kept until the text stays a prefix.
            cut = _remainder(text, self._processor.decode(ids[:room]))
        return *self.frame(ids), cut

    def pieces(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        found = self._processor.encode(text, return_type="offset_mapping")
        spans = [(int(start), int(end)) for start, end in found["offsets"]]
        # Of the bytes of one character only the last has the character's span.
        for i in range(len(spans) - 2, -1, -1):
            if found["pieces"][i].startswith("<0x") and spans[i][0] == spans[i][1] and spans[i + 1][0] == spans[i][0]:
                spans[i] = spans[i + 1]
        return list(found["ids"]), spans

    def frame(self, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
        framed = [self._processor.bos_id(), *ids[: self.max_length - 2], self._processor.eos_id()]
        return _pad(framed, self.max_length, self.pad_id)

    def decode(self, ids: Iterable[int]) -> str:
        return self._processor.decode([int(i) for i in ids if not self._processor.is_control(int(i))])

    def save(self, directory: str | Path) -> None:
        _save(Path(directory), "sentencepiece", self._model, self.max_length)


def _remainder(text: str, kept: str) -> str:
    """What follows `kept` in `text`, where the tokenizer may have normalised spaces, case and width."""
    import unicodedata

    def letters(value: str) -> str:
        return "".join(unicodedata.normalize("NFKC", value).lower().split())

    target = letters(kept).rstrip("\ufffd")
    seen = ""
    for position, character in enumerate(text):
        if len(seen) >= len(target):
            return text[position:].strip()
        seen += letters(character)
    return ""


_HAN = re.compile(r"([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")
_BOUNDARY = "\ue000"  # private use; a tab would be stripped at the start of a line


def _han_apart(line: str) -> str:
    """Marks a boundary around every Han character, which the trainer then never joins into longer pieces."""
    return re.sub(f"{_BOUNDARY}+", _BOUNDARY, _HAN.sub(rf"{_BOUNDARY}\1{_BOUNDARY}", line)).rstrip(_BOUNDARY)


def train_sentencepiece(texts: Iterable[str], vocab_size: int, max_length: int) -> SentencePieceTokenizer:
    """Trains on distinct texts in sorted order (so the result depends on the set alone).

    Captions made from templates repeat whole phrases. Left alone, a trainer makes pieces of those, and a new
    combination of known words falls into pieces that the model never saw. Hence one piece per Han character, as in
    BERT's Chinese vocabulary, and byte-pair merges for the rest: the unigram trainer looks for pieces in a list of
    distinct words, so it misses a frequent word that has no relatives ("style").

    Full character coverage plus byte fallback: no prompt becomes unknown. When the texts cannot fill `vocab_size`, a
    smaller vocabulary is made and logged.
    """
    lines = sorted({line for text in texts if (line := " ".join(text.split()))})
    if not lines:
        raise UserError("no captions to train a tokenizer on: the train split is empty")
    characters = len({character for line in lines for character in line})
    needed = characters + 256 + len(PART_OF_SPEECH_SYMBOLS) + 5  # bytes, symbols, pad, unk, bos, eos, space
    if vocab_size < needed:
        raise UserError(
            f"config.tokenizer.vocab_size={vocab_size} is too small for {characters} distinct characters and 256 "
            f"bytes: set it to at least {needed}, better to some thousands"
        )
    try:
        model = _train(lines, vocab_size)
    except RuntimeError as error:
        possible = re.search(r"Vocabulary size too high .* <= (\d+)", str(error))
        if possible is None:
            raise
        logging.info("%d captions fill a vocabulary of %s, not %d", len(lines), possible[1], vocab_size)
        model = _train(lines, int(possible[1]))
    return SentencePieceTokenizer(model, max_length)


def _train(lines: list[str], vocab_size: int) -> bytes:
    import sentencepiece

    buffer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=map(_han_apart, lines),
        model_writer=buffer,
        model_type="bpe",
        vocab_size=vocab_size,
        character_coverage=1.0,
        byte_fallback=True,
        user_defined_symbols=list(PART_OF_SPEECH_SYMBOLS),
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        num_threads=1,
        normalization_rule_name="nmt_nfkc_cf",
        pretokenization_delimiter=_BOUNDARY,
        max_sentence_length=100_000,
        minloglevel=2,
    )
    return buffer.getvalue()


class BertTokenizer:
    """A BERT-style WordPiece vocabulary: [CLS] text [SEP] [PAD]... (the paper's encoder starts from ERNIE's)."""

    def __init__(self, vocabulary: str, max_length: int) -> None:
        """`vocabulary`: the text of a vocab.txt, one token a line."""
        from transformers import BertTokenizer as Wordpiece

        if max_length < 3:
            raise UserError(f"config.tokenizer.max_length={max_length} must be at least 3 ([CLS], one token, [SEP])")
        self._vocabulary = vocabulary
        tokens = vocabulary.splitlines()
        # transformers 5 ignores vocab_file= without a word: the vocabulary goes first, and its size is checked.
        self._tokenizer: Any = Wordpiece({token: number for number, token in enumerate(tokens)})
        if len(self._tokenizer) != len(tokens):
            raise UserError(
                f"transformers made {len(self._tokenizer)} tokens of a vocabulary of {len(tokens)}: "
                "the vocabulary repeats a line or lacks [PAD], [UNK], [CLS], [SEP] or [MASK]"
            )
        self.max_length = max_length
        self.vocab_size = len(tokens)
        self.pad_id = int(self._tokenizer.pad_token_id)
        self.symbol_ids = _bert_symbols(tokens)

    def __reduce__(self) -> tuple[Any, ...]:
        return BertTokenizer, (self._vocabulary, self.max_length)

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray, str]:
        ids, spans = self.pieces(text)
        room = self.max_length - 2
        cut = text[spans[room][0] :].strip() if len(ids) > room else ""
        return *self.frame(ids), cut

    def pieces(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(encoded["input_ids"]), [(int(start), int(end)) for start, end in encoded["offset_mapping"]]

    def frame(self, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
        framed = [self._tokenizer.cls_token_id, *ids[: self.max_length - 2], self._tokenizer.sep_token_id]
        return _pad(framed, self.max_length, self.pad_id)

    def decode(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)

    def save(self, directory: str | Path) -> None:
        _save(Path(directory), "bert", self._vocabulary.encode(), self.max_length)


def _bert_symbols(tokens: list[str]) -> dict[str, int]:
    """Entries for the part-of-speech tokens: their own, or the first that BERT's vocabulary leaves unused."""
    place = {token: number for number, token in enumerate(tokens)}
    ids = {}
    for number, symbol in enumerate(PART_OF_SPEECH_SYMBOLS, start=1):
        found = place.get(symbol, place.get(f"[unused{number}]"))
        if found is None:
            return {}
        ids[symbol[1:-1]] = found
    return ids


def _save(folder: Path, kind: str, content: bytes, max_length: int) -> None:
    settings = json.dumps({"kind": kind, "max_length": max_length}, sort_keys=True) + "\n"
    with file_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILES[kind]).write_bytes(content)
        (folder / _SETTINGS).write_text(settings)


def tokenizer_sha256(files: Mapping[str, bytes]) -> str:
    """A digest of those of a folder's files that are the tokenizer's; the manifest of prepared data states it."""
    return digest([[name, hashlib.sha256(files[name]).hexdigest()] for name in FILES if name in files])


def tokenizer_files(folder: Path) -> dict[str, bytes]:
    """Those of FILES that a folder holds."""
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}


def bert_vocabulary(path: str) -> str:
    """The vocabulary's text from a vocab.txt, a directory that holds one, or a model name on the hub."""
    if not path:
        raise UserError("config.tokenizer.path is empty: give a vocab.txt, its directory or a model name on the hub")
    given = local(path, "config.tokenizer.path")
    file = given / _VOCABULARY if given.is_dir() else given
    if file.is_file():
        return file.read_text(encoding="utf-8")
    try:
        from transformers import AutoTokenizer

        vocabulary = AutoTokenizer.from_pretrained(path).get_vocab()
    except Exception as error:  # hub, network and parsing errors alike mean: no vocabulary there
        raise UserError(
            f"config.tokenizer.path={path!r} is neither a vocab.txt nor a model whose vocabulary can be loaded "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error
    return "\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n"


def prepare_tokenizer(settings: Any, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer that `config.tokenizer` asks for, trained on `texts` where its kind is trained."""
    if settings.kind == "sentencepiece" and settings.path:
        return load_tokenizer(settings.path)
    if settings.kind == "sentencepiece":
        return train_sentencepiece(texts, settings.vocab_size, settings.max_length)
    if settings.kind == "bert":
        tokenizer = BertTokenizer(bert_vocabulary(settings.path), settings.max_length)
        if tokenizer.vocab_size != settings.vocab_size:
            raise UserError(
                f"the vocabulary of {settings.path} has {tokenizer.vocab_size} tokens, but "
                f"config.tokenizer.vocab_size={settings.vocab_size}: set it to the vocabulary's size"
            )
        return tokenizer
    raise UserError(f"config.tokenizer.kind={settings.kind!r} must be 'sentencepiece' or 'bert'")


def load_tokenizer(where: Any) -> Tokenizer:
    """Loads what `save` wrote.

    Args:
      where: the directory itself, or a config: then `tokenizer/` of `config.data.path`, with the config's max_length.
    """
    if isinstance(where, str | Path):
        folder, max_length = local(where, "config.tokenizer.path"), None
    else:
        folder, max_length = local(where.data.path, "config.data.path") / "tokenizer", int(where.tokenizer.max_length)
    fix = "run the command that made it again, or take the tokenizer directory of a checkpoint"
    try:
        settings = json.loads((folder / _SETTINGS).read_bytes())
        kind, length = settings["kind"], max_length or settings["max_length"]
        if kind not in _FILES or not isinstance(length, int):
            raise ValueError(f"kind {kind!r:.50} and max_length {length!r:.50} are not those of a tokenizer")
        content = (folder / _FILES[kind]).read_bytes()
        if max_length is not None and (folder.parent / MANIFEST).is_file():
            stated = read_manifest(folder.parent).get("tokenizer", {}).get("fingerprint")
            if stated not in (None, tokenizer_sha256(tokenizer_files(folder))):
                raise ValueError(f"it is not the one that {folder.parent / MANIFEST} states")
        return BertTokenizer(content.decode(), length) if kind == "bert" else SentencePieceTokenizer(content, length)
    except FileNotFoundError as error:
        raise UserError(f"no tokenizer in {folder} ({Path(error.filename).name} is missing): {fix}") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise file_error(error) or UserError(
            f"the tokenizer in {folder} is damaged ({str(error)[:200]}): {fix}"
        ) from error
