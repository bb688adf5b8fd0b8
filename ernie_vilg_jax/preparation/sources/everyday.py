"""Everyday concepts of the emoji set: concrete, visually distinct things with literal names in both languages.

The table is assets/everyday.tsv, whose header explains the choice of names.
"""

from __future__ import annotations

import dataclasses

from ernie_vilg_jax.tables import rows


@dataclasses.dataclass(frozen=True)
class Everyday:
    """A curated concept: its emoji (without U+FE0F), names, the Chinese measure word ("" = none)."""

    emoji: str
    en: str
    zh: str
    measure: str
    article: bool

    @property
    def en_phrase(self) -> str:
        """With its indefinite article: "an owl"; plurals and mass nouns have none."""
        return with_article(self.en) if self.article else self.en

    @property
    def zh_phrase(self) -> str:
        """With number and measure word: 一只猫."""
        return f"一{self.measure}{self.zh}" if self.measure else self.zh


def with_article(noun_phrase: str) -> str:
    """The indefinite article by the first letter; none of our names needs the exceptions but "unicorn"."""
    vowel = noun_phrase[0].lower() in "aeiou" and not noun_phrase.startswith(("unicorn", "uni", "one", "euro"))
    return f"{'an' if vowel else 'a'} {noun_phrase}"


EVERYDAY: dict[str, Everyday] = {
    emoji: Everyday(emoji, en.removeprefix("~"), zh, measure, not en.startswith("~"))
    for emoji, en, zh, measure in rows("everyday.tsv")
}
"""Emoji (without U+FE0F) -> concept."""
