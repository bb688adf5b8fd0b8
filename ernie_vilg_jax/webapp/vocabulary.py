"""Words of a prompt that the model was never shown, for models whose captions are made by rules that are known here."""

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from ernie_vilg_jax.preparation.sources import scenes
from ernie_vilg_jax.preparation.sources.emoji import everyday_captions
from ernie_vilg_jax.preparation.sources.everyday import EVERYDAY
from ernie_vilg_jax.preparation.sources.styles import STYLES

PLANS = 3000
"""Scenes whose captions are looked at: many times the words there are."""
_WORD = re.compile("[a-z]+")
_HANZI = re.compile("[\u3400-\u9fff]+")


@dataclass(frozen=True)
class Vocabulary:
    """What the captions of the training data hold.

    Attributes:
      words: English words, lower case.
      pairs: neighbouring hanzi.
    """

    words: frozenset[str]
    pairs: frozenset[str]

    @staticmethod
    def of(captions: Iterable[str]) -> "Vocabulary":
        """That of these captions."""
        words: set[str] = set()
        pairs: set[str] = set()
        for caption in captions:
            words.update(_WORD.findall(caption.lower()))
            for run in _HANZI.findall(caption):
                pairs.update(run[place : place + 2] for place in range(max(1, len(run) - 1)))
        return Vocabulary(frozenset(words), frozenset(pairs))

    def unseen(self, prompt: str) -> list[str]:
        """The words of a prompt that no caption has, in order.

        Chinese has no spaces: a hanzi counts as seen if it stands in a pair, or alone, that a caption has.
        """
        found = {match.start(): match[0] for match in _WORD.finditer(prompt.lower()) if match[0] not in self.words}
        for match in _HANZI.finditer(prompt):
            run = match[0]
            known = [run[place] in self.pairs for place in range(len(run))]
            for place in range(len(run) - 1):
                if run[place : place + 2] in self.pairs:
                    known[place] = known[place + 1] = True
            marks = "".join("x" if one else "-" for one in known)
            found |= {match.start() + gap.start(): run[gap.start() : gap.end()] for gap in re.finditer("-+", marks)}
        return list(dict.fromkeys(found[start] for start in sorted(found)))


def vocabulary_of(config: ConfigDict) -> Vocabulary | None:
    """The vocabulary of a model of this config; None if other data than the package's own took part."""
    captions: list[str] = []
    for source in config.data.sources:
        options = {name: value for name, value in source.items() if name != "name"}
        if source["name"] == "emoji" and options.get("concepts", "everyday") == "everyday":
            captions += _emoji(options)
        elif source["name"] == "scenes":
            captions += _scenes(options)
        elif source["name"] == "composed":
            captions += _composed(options)
        else:
            return None
    return Vocabulary.of(captions) if captions else None


def _emoji(options: Mapping[str, Any]) -> Iterator[str]:
    only = options.get("only")
    for concept in EVERYDAY.values():
        if not only or concept.en in only:
            for style in options.get("styles") or STYLES:
                for told in everyday_captions(concept, STYLES[style]).values():
                    yield from told


def _scenes(options: Mapping[str, Any]) -> Iterator[str]:
    source = scenes.SceneSource(**options)
    for index in range(min(PLANS, source.count)):
        for told in scenes.captions(source.plan(index)).values():
            yield from told


def _composed(options: Mapping[str, Any]) -> Iterator[str]:
    from ernie_vilg_jax.preparation.sources.composed.captions import captions
    from ernie_vilg_jax.preparation.sources.composed.source import ComposedSource

    source = ComposedSource(**options)
    for index in range(min(PLANS, source.count)):
        for told in captions(source.plan(index), random.Random(index), 2).values():
            yield from told
