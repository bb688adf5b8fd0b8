"""Finds the objects that a caption names.

    object {"en": "car", "zh": "汽车"}    named by   a sports car / two taxis / 一辆跑车 / 小轿车
                                          not by     a car park / 汽车模型 / 火车 / a train

An object that the caption does not name is appended to it (`knowledge.objects.append_objects`), so a wrong result
costs little: a name twice in the caption, or missing once. Runs at least once for every caption; results that depend
only on the object's name are cached, and the rest is one pass over the caption.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ernie_vilg_jax import tables
from ernie_vilg_jax.knowledge.words import LANGUAGES

Spans = Sequence[Sequence[Any]]
"""(start, end, part of speech) of key words: `Word`s, or the lists of a record."""

_TOKEN = re.compile(r"[^\W\d_]+(?:['’]s\b)?")
_LONGEST = 3
"""Number of words of the longest name that is searched as a whole."""
_OPAQUE = {language: tables.words(f"lexicons/{language}/opaque.tsv") for language in LANGUAGES}
"""Compounds that are not a kind of their last part."""
_TRANSPARENT = {language: tables.words(f"lexicons/{language}/transparent.tsv") for language in LANGUAGES}
"""Words before which a noun still names an object in the image."""


def mentioned(objects: Sequence[Mapping[str, Any]], caption: str, words: Spans, language: str) -> list[int]:
    """The objects that the caption names: by name, synonym, hyponym, or the head of a compound; singular or plural.

    Args:
      objects: those of a record; one without a name in this language is never found.
      caption: the text.
      words: its key words in order, as from a `Tagger`. Without any, every word may be a noun.
      language: "zh" or "en".

    Returns:
      Indices into `objects`, ascending.
    """
    names = [item.get("name") or {} for item in objects]
    labels = [name.get(language) if isinstance(name, Mapping) else None for name in names]
    if not any(labels):
        return []
    if language == "zh":
        ends, nouns = _chinese_nouns(caption, words)
        found = {label: _names_chinese(caption, ends, nouns, label) for label in set(labels) if label}
    else:
        said = _english_phrases(caption, words)
        found = {label: not said.isdisjoint(_english_names(label)) for label in set(labels) if label}
    return [index for index, label in enumerate(labels) if label and found[label]]


# English: names are phrases in the singular. A name is found where it ends a noun phrase.

_SINGULARS = {plural: singular for plural, singular in tables.rows("lexicons/en/singulars.tsv")}


def singular(word: str) -> str:
    """The singular of a lower-case English noun; undefined for other words."""
    if word in _SINGULARS:
        return _SINGULARS[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zzes")):
        return word[:-2]
    if len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _phrase(text: str) -> str:
    return " ".join(singular(token) for token in _TOKEN.findall(text.lower()))


def _english_phrases(caption: str, words: Spans) -> set[str]:
    """Every phrase of the caption that can name an object."""
    tokens, heads, spans = [], [], []
    position = 0
    for match in _TOKEN.finditer(caption.lower()):
        start, end = match.span()
        token = match.group()
        possessive = token.endswith(("'s", "’s"))
        while position < len(words) and words[position][1] <= start:
            position += 1
        covered = position < len(words) and words[position][0] < end
        noun = words[position][2] in "nq" if covered else None  # a cup of tea has a cup
        if heads and noun and heads[-1] and spans[-1] >= 0 and caption[spans[-1] : start].strip() in ("", "-"):
            # The noun before only qualifies this one, as in "car park".
            heads[-1] = singular(token) in _TRANSPARENT["en"]
        tokens.append(singular(token[:-2] if possessive else token))
        heads.append(noun is not False)  # a word that no tagger claims may well be a noun
        spans.append(-1 if possessive else end)
    said = {token for token, head in zip(tokens, heads, strict=True) if head}
    for length in range(2, _LONGEST + 1):
        for k in range(len(tokens) - length + 1):
            phrase = " ".join(tokens[k : k + length])
            said.add(phrase)
            if phrase in _OPAQUE["en"] and tokens.count(tokens[k + length - 1]) == 1:
                said.discard(tokens[k + length - 1])
    return said


@functools.lru_cache(maxsize=1 << 16)
def _english_names(label: str) -> frozenset[str]:
    """Phrases that name an object with this label."""
    name = _phrase(label)
    names = set().union(*_family("en", name))
    head = name.rpartition(" ")[2]
    if head != name and name not in _OPAQUE["en"]:
        names |= _same("en").get(head, {head})
    return frozenset(names)


# Chinese: names are strings. A name is found where it ends a noun, because the last part of a compound is its head.


def _chinese_nouns(caption: str, words: Spans) -> tuple[list[tuple[int, int]], set[str]]:
    """(where nouns begin and end) and the nouns themselves, both without those that only qualify the next."""
    if not words:
        return [(k, k + 1) for k in range(len(caption))], set()
    nouns: list[tuple[int, int]] = []
    for k, (start, end, kind) in enumerate(words):
        if kind == "n" and not _qualifies(caption, end, words[k + 1] if k + 1 < len(words) else None):
            plural = end - start > 1 and caption[end - 1] in "们群"  # 孩子们, 羊群
            nouns.append((start, end - plural))
    return nouns, {caption[start:end] for start, end in nouns}


def _qualifies(caption: str, end: int, following: Sequence[Any] | None) -> bool:
    """Whether a noun that ends there qualifies a noun right after it, as 汽车 does in 汽车模型."""
    if following is None or following[2] != "n" or following[0] != end:
        return False
    return caption[following[0] : following[1]] not in _TRANSPARENT["zh"]


def _names_chinese(caption: str, ends: Sequence[tuple[int, int]], nouns: set[str], label: str) -> bool:
    names, wholes, blocks = _chinese_names(label)
    if not nouns.isdisjoint(wholes):
        return True
    for name in names:
        if name not in caption:  # by far the fastest check
            continue
        for _, end in ends:
            if caption.endswith(name, 0, end) and not any(
                caption.endswith(compound, 0, end) for compound in blocks.get(name, ())
            ):
                return True
    return False


@functools.lru_cache(maxsize=1 << 16)
def _chinese_names(label: str) -> tuple[frozenset[str], frozenset[str], dict[str, tuple[str, ...]]]:
    """For an object with this label: words that a noun may end in, words that must be the whole noun, and for each of
    the first the compounds that end in it and mean something else."""
    name = label.strip()
    families = [_family("zh", form) for form in _forms(name)]
    names = _all_forms(word for family in families for word in family[0])
    # A wider word must stand alone: a 女人 may be called 人, but 男人 ends in 人 too.
    wholes = _all_forms(word for family in families for word in family[1])
    if not any(name.endswith(compound) for compound in _OPAQUE["zh"]):
        wholes |= _all_forms(name[k:] for k in range(1, len(name)))
    blocks = {
        known: tuple(compound for compound in _OPAQUE["zh"] if compound != known and compound.endswith(known))
        for known in names
    }
    # A compound that itself names the object (公交车 of a 公交车) does not block its shorter names.
    return (
        frozenset(names),
        frozenset(wholes - names),
        {k: tuple(c for c in v if c not in names) for k, v in blocks.items()},
    )


def _all_forms(words: Iterable[str]) -> set[str]:
    return {form for word in words for form in _forms(word)}


def _forms(name: str) -> set[str]:
    """杯子 and 杯, 小狗 and 狗: the word with and without diminutive."""
    forms = {name}
    if len(name) == 1:
        forms |= {name + "子", name + "儿"}
    if len(name) == 2 and name[1] in "子儿":
        forms.add(name[0])
    if len(name) == 2 and name[0] == "小" and name[1] not in "子儿":
        forms.add(name[1])
    return forms


# Both languages: synonyms, narrower and wider words.


@functools.cache
def _same(language: str) -> dict[str, set[str]]:
    """Word -> words for the same thing, itself among them."""
    same: dict[str, set[str]] = {}
    for group in tables.rows(f"lexicons/{language}/same.tsv"):
        members = _normalised(group, language)
        for member in members:
            same.setdefault(member, {member}).update(members)
    return same


@functools.cache
def _kinds(language: str) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Wide -> narrow words, and narrow -> wide words."""
    narrow: dict[str, set[str]] = {}
    wide: dict[str, set[str]] = {}
    for word, *kinds in tables.rows(f"lexicons/{language}/kinds.tsv"):
        [key] = _normalised([word], language)
        for kind in _normalised(kinds, language):
            narrow.setdefault(key, set()).add(kind)
            wide.setdefault(kind, set()).add(key)
    return narrow, wide


def _family(language: str, name: str) -> tuple[set[str], set[str]]:
    """(the name, its synonyms and narrower words; wider words), all with their synonyms."""
    same = _same(language)
    narrow, wide = _kinds(language)
    own = same.get(name, {name})

    def beside(table: Mapping[str, set[str]]) -> set[str]:
        words = {word for member in own for word in table.get(member, ())}
        return set().union(*(same.get(word, {word}) for word in words))

    return own | beside(narrow), beside(wide)


def _normalised(words: Sequence[str], language: str) -> list[str]:
    return [_phrase(word) for word in words] if language == "en" else list(words)
