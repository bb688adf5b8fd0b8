"""Scenes of drawn shapes with captions like those of the web: half of the things unsaid, and words that show nothing.

"on a rainy evening, a red star above a blue circle, soft light", where the image has a green square as well. This is
the premise of the paper's knowledge enhancement (section 3.1): captions hold distractions and leave objects out. The
boxes are those of all things. Record i depends on (seed, i) alone; the units of the split are those of `scenes`.
"""

from __future__ import annotations

import dataclasses
import random
from functools import cache

from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.sources.scenes import Plan, SceneSource, captions
from ernie_vilg_jax.tables import rows

PLAIN = 0.2
"""Share of captions without distractions."""


@dataclasses.dataclass
class DistractedSource(SceneSource):
    """Options of the distracted source: those of `scenes`, of which `objects` may not be changed.

    Attributes:
      unsaid: share of the things that no caption of their image names.
    """

    single: float = 0.2
    unsaid: float = 0.5
    name: str = dataclasses.field(default="distracted", init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objects != "shapes":
            raise UserError("source 'distracted': it has drawn shapes; leave out objects")
        if not 0 <= self.unsaid < 1:
            raise UserError(f"source 'distracted': unsaid={self.unsaid} is a share of the things: give 0 to below 1")

    def record(self, index: int) -> Record:
        record = super().record(index)
        draw = random.Random(f"{self.seed}/{index}/words")
        said = self._said(self.plan(index), draw)
        plain = captions(said)
        named = {name for thing in said.things for name in (thing.colour, thing.noun.en, thing.noun.zh)}
        named |= {thing.zh.split("的")[0] for thing in said.things}
        return dataclasses.replace(
            record,
            captions={language: [distracted(text, language, draw) for text in plain[language]] for language in plain},
            keywords={
                language: [word for word in found if word in named] for language, found in record.keywords.items()
            },
        )

    def _said(self, plan: Plan, draw: random.Random) -> Plan:
        """The plan of the things that captions name: a run of neighbours, at least one."""
        number = sum(draw.random() >= self.unsaid for _ in plan.things)
        number = max(1, number)
        start = draw.randint(0, len(plan.things) - number)
        part = slice(start, start + number)
        return Plan(plan.things[part], plan.relation if number > 1 else "", plan.places[part], plan.ground)

    def fingerprint(self) -> str:
        return digest({"scenes": super().fingerprint(), "unsaid": self.unsaid, "plain": PLAIN, "words": _distractors()})


def distracted(text: str, language: str, draw: random.Random) -> str:
    """A caption with up to three phrases around it that the image does not show; sometimes none."""
    if draw.random() < PLAIN:
        return text
    column = ("en", "zh").index(language)
    chosen = draw.sample(sorted(_distractors()), draw.randint(1, 3))
    phrases = [draw.choice(_distractors()[part])[column] for part in chosen]
    before = draw.randint(0, 1)
    return (", " if language == "en" else "，").join([*phrases[:before], text, *phrases[before:]])


@cache
def _distractors() -> dict[str, list[tuple[str, str]]]:
    """Part of the sentence -> (English, Chinese)."""
    found: dict[str, list[tuple[str, str]]] = {}
    for part, en, zh in rows("scenes/distractors.tsv"):
        found.setdefault(part, []).append((en, zh))
    return found
