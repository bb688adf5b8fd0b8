"""Words that a model never saw: they begin as noise to it, and its old words do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from absl import logging

from ernie_vilg_jax.data.records import open_split
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.knowledge.words import LANGUAGES

SHOWN = 12
MOST = 20_000
"""Old records whose words are counted."""


def seen_tokens(data: Path, tokenizer: Tokenizer) -> set[int]:
    """The tokens in the captions of a model's training data (of the first `MOST` records)."""
    records = open_split(data, "train", verify=False)
    found: set[int] = set()
    for index in range(min(len(records), MOST)):
        captions = records[index].captions
        for text in {text for language in LANGUAGES for text in captions.get(language, ())}:
            found.update(tokenizer.pieces(text)[0])
    return found


def unseen_words(tokenizer: Tokenizer, texts: Iterable[str], seen: Collection[int] | None = None) -> Counter[str]:
    """Word -> in how many of the texts it is, for words with a token that the model never saw.

    Args:
      seen: the tokens that it saw. None if its captions are not at hand: then tokens outside of its vocabulary
        (unknown, or spelt in bytes), for which there was no caption either.

    A word is what stands between spaces; a Han character stands alone.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        ids, spans = tokenizer.pieces(text)
        strange = [
            span
            for number, span in zip(ids, spans, strict=True)
            if span[0] < span[1] and (tokenizer.is_unknown(number) if seen is None else number not in seen)
        ]
        counts.update({_word(text, start, end) for start, end in strange} - {""})
    return counts


def _word(text: str, start: int, end: int) -> str:
    """The word around the characters [start, end)."""
    joined = lambda letter: letter.isalnum() and letter < "\u2e80"  # noqa: E731
    while start < end and text[start].isspace():
        start += 1
    if start < end and joined(text[start]):
        while start and joined(text[start - 1]):
            start -= 1
        while end < len(text) and joined(text[end]):
            end += 1
    word = text[start:end].strip()
    return word if any(letter.isalnum() for letter in word) else ""


def tell(words: Counter[str], texts: Sequence[str]) -> None:
    """Logs how many words are new, and which."""
    if not words:
        logging.info("the model has seen all words of the %d captions", len(texts))
        return
    first = ", ".join(word for word, _ in words.most_common(SHOWN))
    logging.warning(
        "%d words of your captions are new to the model (%s%s): it has to learn them from your images alone, so give "
        "each of them several; for a thing that the model knows, take the name that it knows",
        *(len(words), first, ", ..." if len(words) > SHOWN else ""),
    )
