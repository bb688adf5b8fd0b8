"""Sentences for a scene, in both languages; `grammar` reads them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ernie_vilg_jax.evaluation.binding.facts import Mention
from ernie_vilg_jax.evaluation.binding.nouns import Noun
from ernie_vilg_jax.preparation.sources import nouns
from ernie_vilg_jax.preparation.sources.scenes import COLOURS, RELATIONS

INVERSE = {relation: inverse for relation, (_, _, inverse) in RELATIONS.items()}


def sentences(mentions: Sequence[Mention], relation: str, known: Mapping[str, Noun]) -> dict[str, list[str]]:
    """Language -> sentences, all true; the first is the shortest.

    Args:
      mentions: the things of the scene: one, or two, of which the first is `relation` of the second.
      relation: "" for one thing.
      known: by `Noun.en`.
    """
    if len(mentions) == 1:
        (mention,) = mentions
        noun, bare = known[mention.noun], f"{mention.colour} {mention.noun}".strip()
        phrase = english(mention, noun)
        en = [phrase, f"a picture of {phrase}"] if mention.number else [bare, phrase, f"a picture of {phrase}"]
        zh = [chinese(mention, noun), chinese(mention, noun, measured=True), f"一幅{chinese(mention, noun)}的图画"]
        return {"zh": list(dict.fromkeys(zh)), "en": list(dict.fromkeys(en))}
    found: dict[str, list[str]] = {"zh": [], "en": []}
    first, second = mentions
    for a, b, side in ((first, second, relation), (second, first, INVERSE[relation])):
        zh_side, en_side, _ = RELATIONS[side]
        found["en"].append(f"{english(a, known[a.noun])} {en_side} {english(b, known[b.noun])}")
        for measured in (False, True):
            words = [chinese(mention, known[mention.noun], measured) for mention in (a, b)]
            found["zh"].append(f"{words[0]}在{words[1]}的{zh_side}")
    return {language: list(dict.fromkeys(texts)) for language, texts in found.items()}


def english(mention: Mention, noun: Noun) -> str:
    """ "a red circle", "three red circles"."""
    return nouns.english(noun, [mention.colour], mention.number)


def chinese(mention: Mention, noun: Noun, measured: bool = False) -> str:
    """红色的圆形; with a number, or if `measured`, 一个红色的圆形."""
    colour = f"{COLOURS[mention.colour][0]}的" if mention.colour else ""
    number = mention.number or (1 if measured and noun.measure else 0)
    return ("只有" if mention.number == 1 else "") + nouns.chinese(noun, colour, number)
