"""Objects of a record: which are salient, and how those that a caption does not mention are appended to it.

The visual knowledge of the paper, at training time. Detectors are in `annotation.detectors`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ernie_vilg_jax.knowledge.loss_weights import clip_boxes
from ernie_vilg_jax.knowledge.words import Word


def salient(objects: Sequence[Mapping[str, Any]], *, min_score: float = 0.5, top_k: int = 5) -> list[int]:
    """Which objects get more weight in the loss and belong in the caption, as in the paper.

    Args:
      objects: those of a record; one without a score counts as certain.
      min_score: only objects with a higher score count.
      top_k: at most this many.

    Returns:
      Indices by area x score, largest first, the earlier of equal ones first. Objects without area are left out.
    """
    ranked: list[tuple[float, int]] = []
    for index, item in enumerate(objects):
        score = item.get("score", 1.0)
        # `not >` is also true for NaN.
        if not isinstance(score, int | float) or not score > min_score:
            continue
        for x0, y0, x1, y1 in clip_boxes([item.get("box", ())]):
            ranked.append((-(x1 - x0) * (y1 - y0) * score, index))
    return [index for _, index in sorted(ranked)[:top_k]]


def append_objects(caption: str, words: Sequence[Word], names: Sequence[str], language: str) -> tuple[str, list[Word]]:
    """Appends names of objects: "一张桌子。" and 碗 give "一张桌子,碗"; "a table." and bowl give "a table, bowl".

    Args:
      caption: the text. Spaces and full stops at its end are replaced by the first comma.
      words: its key words.
      names: what to append, in this order; repeated and blank ones are left out.
      language: "zh" joins with ",", others with ", ".

    Returns:
      The longer caption and its key words; each appended name is one noun, even if it has several words.
    """
    new = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not new:
        return caption, list(words)
    text = caption.rstrip(" \t\r\n.,;。．，；、")
    kept = [Word(*word) for word in words if word[1] <= len(text)]
    for name in new:
        if text.strip():
            text += "," if language == "zh" else ", "
        kept.append(Word(len(text), len(text) + len(name), "n"))
        text += name
    return text, kept
