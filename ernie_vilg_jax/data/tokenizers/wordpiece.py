"""WordPiece: the vocabulary and rules of a BERT, through the library `tokenizers`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ernie_vilg_jax.data.tokenizers.base import PART_OF_SPEECH_SYMBOLS, padded, write_files
from ernie_vilg_jax.data.tokenizers.vocabularies import PAD, SPECIAL, UNKNOWN, Vocabulary
from ernie_vilg_jax.errors import UserError

BEGIN, END = "[CLS]", "[SEP]"


class BertTokenizer:
    """[CLS] text [SEP] [PAD]... in the words of a BERT's vocabulary (the paper's encoder starts from ERNIE's)."""

    def __init__(self, vocabulary: Vocabulary, max_length: int) -> None:
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

        if max_length < 3:
            raise UserError(f"config.tokenizer.max_length={max_length} must be at least 3 ([CLS], one token, [SEP])")
        ids = dict(vocabulary.ids)
        if missing := [token for token in (PAD, UNKNOWN, BEGIN, END) if token not in ids]:
            raise UserError(
                f"the vocabulary of {vocabulary.size} lines lacks {', '.join(missing)}: it is not a BERT's vocab.txt, "
                "which has one token a line"
            )
        # Without the wrapper of transformers, which would give "[SEP]" in the text the id of the special token.
        self._tokenizer: Any = Tokenizer(models.WordPiece(ids, unk_token=UNKNOWN, max_input_chars_per_word=100))
        self._tokenizer.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=vocabulary.tokenize_chinese_chars,
            strip_accents=vocabulary.strip_accents,
            lowercase=vocabulary.do_lower_case,
        )
        self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._tokenizer.decoder = decoders.WordPiece(prefix="##")
        self.vocabulary = vocabulary
        self.max_length = max_length
        self.vocab_size = vocabulary.size
        self.pad_id, self._unknown, self._begin, self._end = (ids[token] for token in (PAD, UNKNOWN, BEGIN, END))
        self._special = {ids[token] for token in SPECIAL if token in ids}
        self.symbol_ids = _symbols(ids)

    def __reduce__(self) -> tuple[Any, ...]:
        return BertTokenizer, (self.vocabulary, self.max_length)

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray, str]:
        ids, spans = self.pieces(text)
        room = self.max_length - 2
        cut = text[spans[room][0] :].strip() if len(ids) > room else ""
        return *self.frame(ids), cut

    def pieces(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        return list(encoded.ids), [(int(start), int(end)) for start, end in encoded.offsets]

    def frame(self, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
        return padded([self._begin, *ids[: self.max_length - 2], self._end], self.max_length, self.pad_id)

    def decode(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode([int(i) for i in ids if int(i) not in self._special])

    def is_unknown(self, number: int) -> bool:
        return number == self._unknown

    def save(self, directory: str | Path) -> None:
        settings = {"max_length": self.max_length, **self.vocabulary.other_options()}
        write_files(Path(directory), "bert", self.vocabulary.text.encode(), settings)


def _symbols(ids: dict[str, int]) -> dict[str, int]:
    """Entries for the part-of-speech tokens: their own, or the first [unused] ones of BERT's vocabulary."""
    found = {}
    for number, symbol in enumerate(PART_OF_SPEECH_SYMBOLS, start=1):
        place = ids.get(symbol, ids.get(f"[unused{number}]"))
        if place is None:
            return {}
        found[symbol[1:-1]] = place
    return found
