"""Scores a tagger against the labelled captions in `gold` (its README says how they are labelled).

Character-level (the main figure): every character of a caption that lies in a gold word of part of speech p should lie
in a found word of p. With tp, fp, fn counted over the characters of all captions, per p:
precision = tp / (tp + fp), recall = tp / (tp + fn), F1 = 2 tp / (2 tp + fp + fn).

Span-exact (stricter): the same with whole words, where (start, end, p) must agree; "exact" is the share of all gold
words, of any p, that are found so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from ernie_vilg_jax.annotation.taggers import Tagger
from ernie_vilg_jax.knowledge.words import PARTS_OF_SPEECH, Word

FOLDER = Path(__file__).parent / "gold"
_LABELLED = re.compile(r"(?P<text>.+)/(?P<pos>[nvamqr])")
_ATTACHED = frozenset([",", ".", "!", "?", ";", ":", "'", "'s"])


class Score(NamedTuple):
    """Right, wrongly found and missed counts (of characters or of words)."""

    tp: int
    fp: int
    fn: int

    @property
    def precision(self) -> float:
        return self.tp / max(self.tp + self.fp, 1)

    @property
    def recall(self) -> float:
        return self.tp / max(self.tp + self.fn, 1)

    @property
    def f1(self) -> float:
        return 2 * self.tp / max(2 * self.tp + self.fp + self.fn, 1)


class Report(NamedTuple):
    characters: dict[str, Score]  # part of speech -> score
    spans: dict[str, Score]
    exact: float  # share of the gold words found with exact span and part of speech


def parts_of(language: str) -> list[str]:
    """The parts of a language: `dev` and `test`; for `zh` also `shop_dev`, `shop_test`, `alt_dev`, `alt_test`."""
    return sorted(path.stem.removeprefix(f"{language}_") for path in FOLDER.glob(f"{language}_*.txt"))


def read_gold(language: str, part: str) -> list[tuple[str, list[Word]]]:
    """Captions of one file (`parts_of` the language, `zh` or `en`) with their key words."""
    lines = (FOLDER / f"{language}_{part}.txt").read_text(encoding="utf-8").splitlines()
    return [_caption(line, language) for line in lines if line and not line.startswith("#")]


def _caption(line: str, language: str) -> tuple[str, list[Word]]:
    text, words = "", []
    for token in line.split(" "):
        labelled = _LABELLED.fullmatch(token)
        piece = labelled["text"] if labelled else token.replace("␣", " ")
        if language == "en" and text and piece not in _ATTACHED:
            text += " "
        if labelled:
            words.append(Word(len(text), len(text) + len(piece), labelled["pos"]))
        text += piece
    return text, words


def score(tagger: Tagger, gold: Sequence[tuple[str, Sequence[Word]]]) -> Report:
    """Scores over captions and their key words."""
    characters, spans = Counter(), Counter()
    for caption, wanted in gold:
        found = tagger.words(caption)
        _count(characters, _characters(wanted), _characters(found))
        _count(spans, set(wanted), set(found))
    exact = sum(spans["tp", pos] for pos in PARTS_OF_SPEECH)
    words = sum(len(wanted) for _, wanted in gold)
    return Report(_scores(characters), _scores(spans), exact / max(words, 1))


def intervals(
    tagger: Tagger, gold: Sequence[tuple[str, Sequence[Word]]], draws: int = 1000
) -> dict[str, tuple[float, float]]:
    """95% bootstrap intervals of F1 over characters by part of speech: `draws` times as many captions, with
    replacement, of fixed seed."""
    counts = [Counter() for _ in gold]
    for one, (caption, wanted) in zip(counts, gold, strict=True):
        _count(one, _characters(wanted), _characters(tagger.words(caption)))
    random = Random(0)
    samples = [_scores(sum(random.choices(counts, k=len(counts)), Counter())) for _ in range(draws)]
    bounds = {}
    for pos in PARTS_OF_SPEECH:
        values = sorted(sample[pos].f1 for sample in samples)
        bounds[pos] = (values[round(0.025 * (draws - 1))], values[round(0.975 * (draws - 1))])
    return bounds


def _characters(words: Sequence[Word]) -> set[tuple[int, str]]:
    return {(place, word.pos) for word in words for place in range(word.start, word.end)}


def _count(counts: Counter, wanted: set, found: set) -> None:
    for items, name in ((wanted & found, "tp"), (found - wanted, "fp"), (wanted - found, "fn")):
        counts.update((name, item[-1]) for item in items)


def _scores(counts: Counter) -> dict[str, Score]:
    return {pos: Score(*(counts[name, pos] for name in ("tp", "fp", "fn"))) for pos in PARTS_OF_SPEECH}
