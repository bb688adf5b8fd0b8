"""Sentences for a scene, in both languages; `grammar` reads them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ernie_vilg_jax.evaluation.binding.facts import Mention
from ernie_vilg_jax.evaluation.binding.nouns import Noun
from ernie_vilg_jax.preparation.sources.everyday import with_article
from ernie_vilg_jax.preparation.sources.scenes import COLOURS, RELATIONS

EN_NUMBERS = ("", "one", "two", "three", "four")
ZH_NUMBERS = ("", "一", "两", "三", "四")
INVERSE = {relation: inverse for relation, (_, _, inverse) in RELATIONS.items()}


def sentences(mentions: Sequence[Mention], relation: str, nouns: Mapping[str, Noun]) -> dict[str, list[str]]:
    """Language -> sentences, all true; the first is the shortest.

    Args:
      mentions: the things of the scene: one, or two, of which the first is `relation` of the second.
      relation: "" for one thing.
      nouns: by `Noun.en`.
    """
    if len(mentions) == 1:
        (mention,) = mentions
        noun, bare = nouns[mention.noun], f"{mention.colour} {mention.noun}".strip()
        phrase = english(mention, noun)
        en = [phrase, f"a picture of {phrase}"] if mention.number else [bare, phrase, f"a picture of {phrase}"]
        zh = [chinese(mention, noun), chinese(mention, noun, measured=True), f"一幅{chinese(mention, noun)}的图画"]
        return {"zh": list(dict.fromkeys(zh)), "en": list(dict.fromkeys(en))}
    found: dict[str, list[str]] = {"zh": [], "en": []}
    first, second = mentions
    for a, b, side in ((first, second, relation), (second, first, INVERSE[relation])):
        zh_side, en_side, _ = RELATIONS[side]
        found["en"].append(f"{english(a, nouns[a.noun])} {en_side} {english(b, nouns[b.noun])}")
        for measured in (False, True):
            words = [chinese(mention, nouns[mention.noun], measured) for mention in (a, b)]
            found["zh"].append(f"{words[0]}在{words[1]}的{zh_side}")
    return {language: list(dict.fromkeys(texts)) for language, texts in found.items()}


def english(mention: Mention, noun: Noun) -> str:
    """ "a red circle", "three red circles"."""
    if mention.number > 1:
        return f"{EN_NUMBERS[mention.number]} {mention.colour} {noun.plural}".replace("  ", " ")
    phrase = f"{mention.colour} {noun.en}".strip()
    if mention.number == 1:
        return f"one {phrase}"
    return with_article(phrase) if noun.countable else phrase


def chinese(mention: Mention, noun: Noun, measured: bool = False) -> str:
    """红色的圆形; with a number, or if `measured`, 一个红色的圆形."""
    phrase = f"{COLOURS[mention.colour][0]}的{noun.zh}" if mention.colour else noun.zh
    if mention.number == 1:
        return f"只有一{noun.measure or '个'}{phrase}"
    if mention.number > 1 or (measured and noun.measure):
        return f"{ZH_NUMBERS[max(mention.number, 1)]}{noun.measure or '个'}{phrase}"
    return phrase
