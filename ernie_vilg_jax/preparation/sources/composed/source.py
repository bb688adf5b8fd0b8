"""Composed scenes of many things: one to three of them, with colour, number, size, relation, look and ground.

"two red cars to the left of a blue heart, on the grass", 一只戴着红色帽子的熊猫，水彩风格. Record i depends on
(seed, i) alone.
Full-colour emoji art in several styles, the same in shades of one colour, and drawn shapes. The units of the split are
combinations (`plans.Plan.units`): with a holdout fraction, some colours of things, numbers of things, looks of things
and pairs with a relation are never trained on, though every thing, colour, number, look and relation is.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Sequence
from importlib import metadata

from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import encode_png
from ernie_vilg_jax.preparation.sources import Drawn, Licence
from ernie_vilg_jax.preparation.sources.composed.captions import captions
from ernie_vilg_jax.preparation.sources.composed.painting import paint
from ernie_vilg_jax.preparation.sources.composed.plans import Part, Plan, Planner
from ernie_vilg_jax.preparation.sources.composed.vocabulary import ART, GROUNDS, LOOKS, THINGS
from ernie_vilg_jax.preparation.sources.scenes import COLOURS
from ernie_vilg_jax.preparation.sources.styles import STYLES

RECIPE = 1
"""Increased when the code of this package makes other records from the same options."""


@dataclasses.dataclass
class ComposedSource(Drawn):
    """Options of the composed source.

    Attributes:
      size: pixels per side.
      count: number of records.
      seed: different seeds give different scenes.
      things: English names of the things to take (keys of `vocabulary.THINGS`); () = all.
      looks: art styles and effects (keys of `vocabulary.LOOKS`), at least one of them art; () = all.
      captions: the most captions per language of a record.
    """

    size: int = 64
    count: int = 1000
    seed: int = 0
    things: tuple[str, ...] = ()
    looks: tuple[str, ...] = ()
    captions: int = 5
    name: str = dataclasses.field(default="composed", init=False)

    def __post_init__(self) -> None:
        self.things = tuple(self.things) or tuple(THINGS)
        self.looks = tuple(self.looks) or tuple(LOOKS)
        for option, given, known in (("things", self.things, THINGS), ("looks", self.looks, LOOKS)):
            self.check_known(option, given, known)
        if len(set(self.things)) < 3:
            raise UserError("source 'composed': things=… needs at least three, as scenes have up to three")
        if not set(self.looks) & set(ART):
            raise UserError(f"source 'composed': looks=… needs an art style: one of {', '.join(ART)}")
        for option in ("count", "captions"):
            if getattr(self, option) < 1:
                raise UserError(f"source 'composed': {option}={getattr(self, option)} must be at least 1")

    @functools.cached_property
    def _planner(self) -> Planner:
        return Planner(self.things, self.looks)

    def plan(self, index: int) -> Plan:
        """Scene `index`; cheap, no pixels."""
        return self._planner.plan(random.Random(f"{self.seed}/{index}"))

    @property
    def total(self) -> int:
        return self.count

    def record(self, index: int) -> Record:
        plan = self.plan(index)
        draw = random.Random(f"{self.seed}/{index}/words")
        image, boxes = paint(plan, self.size, draw)
        look = LOOKS[plan.look]
        return Record(
            id=f"composed/{self.seed}-{index:07d}",
            image=encode_png(image),
            captions=captions(plan, draw, self.captions),
            concept="+".join(plan.units),
            source=self.name,
            keywords=_keywords(plan.parts),
            style={"zh": look.zh_styles[0], "en": look.en_styles[0]},
            objects=[
                {"name": {"zh": noun.zh, "en": noun.en}, "box": list(box), "score": 1.0}
                for part, several in zip(plan.parts, boxes, strict=True)
                for noun in [THINGS[part.thing].noun]
                for box in several
            ],
            licence=" AND ".join(sorted({STYLES[plan.art].licence, "Apache-2.0"})),
            width=self.size,
            height=self.size,
        )

    def fingerprint(self) -> str:
        packages = [STYLES[look].package.integrity for look in self.looks if look in ART]
        return digest(
            {
                "recipe": RECIPE,
                "options": [self.size, self.count, self.seed, self.things, self.looks, self.captions],
                "things": [dataclasses.astuple(THINGS[name]) for name in self.things],
                "looks": [LOOKS[name] for name in self.looks],
                "grounds": [[key, [*ground[:2], sorted(ground.avoid), *ground[3:]]] for key, ground in GROUNDS.items()],
                "colours": COLOURS,
                "packages": packages,
                "tools": {name: metadata.version(name) for name in ("resvg_py", "pillow")},
            }
        )

    def licences(self) -> list[Licence]:
        ours = "https://www.apache.org/licenses/LICENSE-2.0"
        looks = [(name, STYLES[name]) for name in self.looks if name in ART]
        return [
            Licence("drawn shapes and backgrounds", "Apache-2.0", "the authors of ernie_vilg_jax", ours),
            *(
                Licence(
                    f"{look.package.name} {look.package.version} ({name}), composed and partly recoloured",
                    *(look.licence, look.author, look.url),
                )
                for name, look in looks
            ),
        ]


def _keywords(parts: Sequence[Part]) -> dict[str, list[str]]:
    """Colours and nouns."""
    zh = [word for p in parts for word in (COLOURS[p.colour][0] if p.colour else "", THINGS[p.thing].noun.zh) if word]
    return {"zh": zh, "en": [word for part in parts for word in (part.colour, part.thing) if word]}
