"""Key words in the tokens: a special token before each, and a weight on the attention to it.

    caption   灰色的猫                 words    灰色/a  猫/n
    tokens    [a] 灰 色 的 [n] 猫      weights  1 1.01 1.01 1 1 1.01

The textual knowledge of the paper. Both are for training only; inference uses the plain prompt.
"""

from collections.abc import Mapping, Sequence

import numpy as np


def emphasise(
    ids: Sequence[int],
    spans: Sequence[tuple[int, int]],
    words: Sequence[tuple[int, int, str]],
    *,
    symbols: Mapping[str, int] | None,
    weight: float,
    room: int,
) -> tuple[list[int], np.ndarray]:
    """Puts special tokens before key words and weighs the tokens of key words.

    Args:
      ids, spans: the tokens of a caption and the [start, end) of each in its characters, as from `Tokenizer.pieces`.
      words: (start, end, part of speech) of the key words, ordered, not overlapping.
      symbols: part of speech -> id of its special token; None puts none in.
      weight: w_a; the attention to key-word tokens is multiplied by 1 + w_a.
      room: tokens that the text encoder takes. Special tokens never push out words of the caption: if there is too
        little room for all, the first words get theirs.

    Returns:
      (ids, weights [len(ids)] float32); weights are 1 on special tokens and outside key words.
    """
    spare = room - len(ids) if symbols is not None else 0
    out: list[int] = []
    weights: list[float] = []
    word, begun = 0, False
    for token, (start, end) in zip(ids, spans, strict=True):
        while word < len(words) and words[word][1] <= start:
            word, begun = word + 1, False
        inside = word < len(words) and start < words[word][1] and end > words[word][0]
        if inside and not begun:
            begun = True
            if symbols is not None and spare > 0:
                out.append(symbols[words[word][2]])
                weights.append(1.0)
                spare -= 1
        out.append(token)
        weights.append(1.0 + weight if inside else 1.0)
    return out, np.asarray(weights, np.float32)
