"""SentencePiece: a byte-pair vocabulary that is trained on the prepared captions."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ernie_vilg_jax.data.tokenizers.base import MODEL, PART_OF_SPEECH_SYMBOLS, padded, write_files
from ernie_vilg_jax.errors import UserError


class SentencePieceTokenizer:
    """A byte-pair model with ids pad 0, unknown 1, begin 2, end 3; bytes stand for unseen characters."""

    def __init__(self, model: bytes, max_length: int) -> None:
        import sentencepiece

        if max_length < 3:
            raise UserError(f"config.tokenizer.max_length={max_length} must be at least 3 (begin, one token, end)")
        if not model:  # sentencepiece accepts an empty model silently
            raise ValueError(f"{MODEL} is empty")
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        if min(self._processor.pad_id(), self._processor.bos_id(), self._processor.eos_id()) < 0:
            raise ValueError(f"{MODEL} lacks a pad, begin or end token")
        self.max_length = max_length
        self.vocab_size = self._processor.get_piece_size()
        self.pad_id = self._processor.pad_id()
        unknown = self._processor.unk_id()
        ids = {symbol[1:-1]: self._processor.piece_to_id(symbol) for symbol in PART_OF_SPEECH_SYMBOLS}
        self.symbol_ids = ids if unknown not in ids.values() else {}
        self._typed = {number: f"[{pos}]" for pos, number in self.symbol_ids.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return SentencePieceTokenizer, (self._model, self.max_length)

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray, str]:
        room = self.max_length - 2
        ids = self._processor.encode(text)
        if not self._typed.keys().isdisjoint(ids):
            ids = self.pieces(text)[0]
        cut = ""
        if len(ids) > room:
            # Byte pieces of one character decode only together: extend the kept part until it decodes to a prefix.
            cut = _remainder(text, self._processor.decode(ids[:room]))
        return *self.frame(ids), cut

    def pieces(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        found = self._processor.encode(text, return_type="offset_mapping")
        spans = [(int(start), int(end)) for start, end in found["offsets"]]
        # Of the bytes of a character, only the last has its span.
        for i in range(len(spans) - 2, -1, -1):
            if found["pieces"][i].startswith("<0x") and spans[i][0] == spans[i][1] and spans[i + 1][0] == spans[i][0]:
                spans[i] = spans[i + 1]
        ids = list(found["ids"])
        if self._typed.keys().isdisjoint(ids):
            return ids, spans
        spelt = []
        for number, (start, end) in zip(ids, spans, strict=True):
            written = self._typed.get(number, "")
            letters = [(one, (end - len(written) + i, end - len(written) + i + 1)) for i, one in enumerate(written)]
            spelt += [(one, span) for letter, span in letters for one in self._letter(letter)]
            spelt += [] if written else [(number, (start, end))]
        return [number for number, _ in spelt], [span for _, span in spelt]

    def _letter(self, letter: str) -> list[int]:
        """The piece of a letter, or those of its bytes, to spell out a symbol in the text."""
        number = self._processor.piece_to_id(letter)
        if number != self._processor.unk_id():
            return [number]
        return [self._processor.piece_to_id(f"<0x{byte:02X}>") for byte in letter.encode()]

    def frame(self, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
        framed = [self._processor.bos_id(), *ids[: self.max_length - 2], self._processor.eos_id()]
        return padded(framed, self.max_length, self.pad_id)

    def decode(self, ids: Iterable[int]) -> str:
        return self._processor.decode([int(i) for i in ids if not self._processor.is_control(int(i))])

    def is_unknown(self, number: int) -> bool:
        return self._processor.is_unknown(number) or self._processor.is_byte(number)

    def save(self, directory: str | Path) -> None:
        write_files(Path(directory), "sentencepiece", self._model, {"max_length": self.max_length})


def _remainder(text: str, kept: str) -> str:
    """The rest of `text` after `kept`, in which the tokenizer may have normalised spaces, case and width."""

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

    Captions from templates repeat whole phrases. By default a trainer makes pieces of those, and a new combination of
    known words is split into pieces that the model never saw. Hence one piece per Han character, as in BERT's Chinese
    vocabulary, and byte-pair merges for the rest: the unigram trainer searches pieces in a list of distinct words, so
    it misses a frequent word without related words ("style").

    Full character coverage plus byte fallback: no prompt becomes unknown. If the texts cannot fill `vocab_size`, the
    vocabulary is smaller, and a log line says so.
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
