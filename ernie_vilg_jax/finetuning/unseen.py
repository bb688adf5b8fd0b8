"""Words that a model never saw: they begin as noise to it, and its old words do not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from absl import logging

from ernie_vilg_jax.data.tokenizers import Tokenizer

SHOWN = 12
_WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|[^\W\u3400-\u9fff\uf900-\ufaff]+(?:'\w+)?")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case; each Han character is one."""
    return _WORD.findall(text.lower())


def unseen_words(texts: Iterable[str], seen: Collection[str] | None, tokenizer: Tokenizer) -> Counter[str]:
    """Word -> in how many of the texts it is, for the words that the model never saw.

    Args:
      seen: the words that it saw. None if that is not known: then these are the words that its tokenizer cannot spell,
        or only in bytes, which were in no caption that its vocabulary is from.
    """
    strange: dict[str, bool] = {}
    counts: Counter[str] = Counter()
    for text in texts:
        for word in dict.fromkeys(words_of(text)):
            if word not in strange:
                pieces = tokenizer.pieces(word)[0] if seen is None else ()
                strange[word] = word not in seen if seen is not None else any(map(tokenizer.is_unknown, pieces))
            counts[word] += strange[word]
    return +counts


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
