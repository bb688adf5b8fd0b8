"""Composed scenes: one to three coloured objects in a stated relation, with exact boxes; any number from a seed.

"红色的星星在蓝色的圆形的右边" / "a red star to the right of a blue circle". Record i depends on (seed, i) alone.
The units of the train/holdout split are the (colour, shape) pairs for drawn shapes, and the emoji for emoji art (the
same units as the emoji source's), so that neither is seen in training when held out.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import random
from importlib import metadata
from typing import Any

from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import encode_png
from ernie_vilg_jax.preparation.sources import Drawn, Licence
from ernie_vilg_jax.preparation.sources.everyday import EVERYDAY, with_article
from ernie_vilg_jax.preparation.sources.shapes import SHAPES, Name, shape_mask

RECIPE = 1
"""Increased when the code below (or the shapes) makes other records from the same options."""

COLOURS: dict[str, tuple[str, tuple[int, int, int]]] = {
    "red": ("红色", (221, 34, 34)),
    "orange": ("橙色", (255, 136, 0)),
    "yellow": ("黄色", (245, 200, 20)),
    "green": ("绿色", (34, 160, 70)),
    "blue": ("蓝色", (34, 85, 221)),
    "purple": ("紫色", (136, 51, 187)),
    "pink": ("粉色", (255, 119, 170)),
    "brown": ("棕色", (136, 85, 51)),
    "black": ("黑色", (20, 20, 20)),
}
"""English name -> Chinese name and sRGB."""

MOST_THINGS = 3
"""In a scene."""

GROUNDS = ((255, 255, 255), (255, 255, 255), (238, 246, 255), (255, 247, 230), (238, 251, 234))
"""Backgrounds of the full scenes; simple ones are white."""

RELATIONS: dict[str, tuple[str, str, str]] = {
    "left": ("左边", "to the left of", "right"),
    "right": ("右边", "to the right of", "left"),
    "above": ("上方", "above", "below"),
    "below": ("下方", "below", "above"),
}
"""Relation -> Chinese, English, inverse."""

UNSUITED = ("red", "green", "yellow", "pink", "orange", "rainbow", "of ", "candle", "high-speed")
"""Names of emoji with a colour or a portion, which do not fit after recolouring."""

SILHOUETTES = "fluent-emoji-high-contrast"
"""The one-colour style that is recoloured for objects="emoji"."""


@dataclasses.dataclass(frozen=True)
class Thing:
    """One object of a scene: a shape's key or an emoji, its noun, its colour."""

    key: str
    noun: Name
    colour: str

    @property
    def en(self) -> str:
        return with_article(f"{self.colour} {self.noun.en}")

    @property
    def zh(self) -> str:
        return f"{COLOURS[self.colour][0]}的{self.noun.zh}"

    @property
    def zh_counted(self) -> str:
        return f"一{self.noun.measure}{self.zh}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The content of a scene: its things, for two or three of them the relation of the first to the next ("left": the
    things stand from left to right), and the place of each: (x, y, side) as fractions of the image."""

    things: tuple[Thing, ...]
    relation: str
    places: tuple[tuple[float, float, float], ...]
    ground: tuple[int, int, int]


@dataclasses.dataclass
class SceneSource(Drawn):
    """Options of the scenes source.

    Attributes:
      size: pixels per side.
      count: number of records.
      seed: different seeds give different scenes.
      objects: "shapes" (drawn here) or "emoji" (recoloured silhouettes, fetched from the npm registry).
      simple: one or two objects on white, never three.
      single: fraction of scenes with one object.
      shapes: keys of SHAPES to draw; () = all.
      colours: keys of COLOURS; () = all.
    """

    size: int = 64
    count: int = 1000
    seed: int = 0
    objects: str = "shapes"
    simple: bool = False
    single: float = 0.4
    shapes: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    name: str = dataclasses.field(default="scenes", init=False)

    def __post_init__(self) -> None:
        self.shapes, self.colours = tuple(self.shapes), tuple(self.colours)
        for option, given, known in (("shapes", self.shapes, SHAPES), ("colours", self.colours, COLOURS)):
            self.check_known(option, given, known)
            if given and len(set(given)) < MOST_THINGS:
                raise UserError(f"source {self.name!r}: {option} needs {MOST_THINGS} or more different ones")
        if self.shapes and self.objects != "shapes":
            raise UserError(f"source {self.name!r}: shapes chooses among drawn shapes, so it needs objects='shapes'")
        if self.objects not in ("shapes", "emoji"):
            raise UserError(f"source {self.name!r}: objects={self.objects!r} must be 'shapes' or 'emoji'")
        if self.count < 1:
            raise UserError(f"source {self.name!r}: count={self.count} must be at least 1")

    @functools.cached_property
    def _nouns(self) -> dict[str, Name]:
        if self.objects == "shapes":
            return {key: SHAPES[key][0] for key in self.shapes or SHAPES}
        from ernie_vilg_jax.preparation.sources.emoji import IconSet, icon_set

        art = icon_set(SILHOUETTES)
        assert isinstance(art, IconSet)
        usable = [c for c in EVERYDAY.values() if c.article and c.measure and not any(w in c.en for w in UNSUITED)]
        return {c.emoji: Name(c.zh, c.en, c.measure) for c in usable if art.find(c.emoji)}

    def plan(self, index: int) -> Plan:
        """Draws scene `index`; cheap, no pixels."""
        draw = random.Random(f"{self.seed}/{index}")
        one = draw.random() < self.single
        number = 1 if one else 2 if self.simple or draw.random() < 0.7 else 3
        nouns = draw.sample(sorted(self._nouns), number)
        colours = draw.sample(list(self.colours or COLOURS), number)
        things = tuple(Thing(key, self._nouns[key], colour) for key, colour in zip(nouns, colours, strict=True))
        relation = draw.choice(("left", "above") if number == 3 else tuple(RELATIONS)) if number > 1 else ""
        ground = GROUNDS[0] if self.simple else draw.choice(GROUNDS)
        return Plan(things, relation, _places(draw, number, relation), ground)

    @property
    def total(self) -> int:
        return self.count

    def units(self, plan: Plan) -> list[str]:
        """What the split holds out: a scene goes where one of its units does."""
        if self.objects == "shapes":
            return [f"shape/{thing.colour}-{thing.key}" for thing in plan.things]
        from ernie_vilg_jax.preparation.sources.emoji import code_points

        return [f"emoji/{code_points(thing.key)}" for thing in plan.things]

    def record(self, index: int) -> Record:
        plan = self.plan(index)
        image, boxes = self._paint(plan)
        objects = [
            {"name": {"zh": thing.noun.zh, "en": thing.noun.en}, "box": box, "score": 1.0}
            for thing, box in zip(plan.things, boxes, strict=True)
        ]
        keywords = {
            "zh": [word for thing in plan.things for word in (COLOURS[thing.colour][0], thing.noun.zh)],
            "en": [word for thing in plan.things for word in (thing.colour, thing.noun.en)],
        }
        return Record(
            id=f"{self.name}/{self.seed}-{index:07d}",
            image=image,
            captions=captions(plan),
            concept="+".join(self.units(plan)),
            source=self.name,
            keywords=keywords,
            objects=objects,
            licence="MIT" if self.objects == "emoji" else "Apache-2.0",
            width=self.size,
            height=self.size,
        )

    def _mask(self, key: str, side: int) -> Any:
        if self.objects == "shapes":
            return _shape(key, side)
        return _silhouette(key, side)

    def _paint(self, plan: Plan) -> tuple[bytes, list[list[float]]]:
        """PNG and, per thing, the box of the pixels it changed, in [0, 1]."""
        from PIL import Image, ImageChops

        canvas = Image.new("RGB", (self.size, self.size), plan.ground)
        boxes = []
        for thing, (x, y, side) in zip(plan.things, plan.places, strict=True):
            before = canvas.copy()
            pixels = max(4, round(side * self.size))
            mask = self._mask(thing.key, pixels)
            canvas.paste(COLOURS[thing.colour][1], (round(x * self.size), round(y * self.size)), mask)
            box = ImageChops.difference(before, canvas).getbbox()
            if box is None:
                raise AssertionError(f"{thing} left no pixels")
            boxes.append([value / self.size for value in box])
        return encode_png(canvas, optimize=True), boxes

    def fingerprint(self) -> str:
        options = [self.size, self.count, self.seed, self.objects, self.simple, self.single]
        options += [chosen for chosen in (self.shapes, self.colours) if chosen]
        inputs: list[Any] = [metadata.version("pillow")]
        if self.objects == "emoji":
            from ernie_vilg_jax.preparation.sources.styles import CLDR, STYLES

            inputs += [STYLES[SILHOUETTES].package.integrity, CLDR.integrity, metadata.version("resvg_py")]
            inputs += [dataclasses.astuple(concept) for concept in EVERYDAY.values()]
        return digest({"recipe": RECIPE, "options": options, "inputs": inputs, "colours": COLOURS})

    def licences(self) -> list[Licence]:
        if self.objects == "shapes":
            ours = "https://www.apache.org/licenses/LICENSE-2.0"
            return [Licence("drawn shapes", "Apache-2.0", "the authors of ernie_vilg_jax", ours)]
        from ernie_vilg_jax.preparation.sources.styles import STYLES

        look = STYLES[SILHOUETTES]
        work = f"{look.package.name} {look.package.version}, recoloured"
        return [Licence(work, look.licence, look.author, look.url)]


def _places(draw: random.Random, number: int, relation: str) -> tuple[tuple[float, float, float], ...]:
    """Left-top corner and side of each thing: cells along the relation's axis, so things never overlap."""
    if number == 1:
        side = draw.uniform(0.5, 0.8)
        return ((draw.uniform(0.06, 0.94 - side), draw.uniform(0.06, 0.94 - side), side),)
    cell = 1 / number
    along, across = [], []
    sides = [draw.uniform(0.76, 0.9) * cell for _ in range(number)]
    for k, side in enumerate(sides):
        along.append(k * cell + draw.uniform(0.03, 0.97 - side / cell) * cell)
        across.append(0.5 - side / 2 + draw.uniform(-0.12, 0.12))
    if relation in ("right", "below"):  # the first thing stands last
        along, sides, across = along[::-1], sides[::-1], across[::-1]
    if relation in ("left", "right"):
        return tuple(zip(along, across, sides, strict=True))
    return tuple(zip(across, along, sides, strict=True))


def captions(plan: Plan) -> dict[str, list[str]]:
    """Chinese and English sentences, all true for the plan."""
    things = plan.things
    if len(things) == 1:
        (thing,) = things
        return {
            "zh": [thing.zh, thing.zh_counted, f"一幅{thing.zh}的图画"],
            "en": [f"{thing.colour} {thing.noun.en}", thing.en, f"a picture of {thing.en}"],
        }
    zh_relation, en_relation, inverse = RELATIONS[plan.relation]
    if len(things) == 2:
        first, second = things
        zh_inverse, en_inverse, _ = RELATIONS[inverse]
        return {
            "zh": [
                f"{first.zh}在{second.zh}的{zh_relation}",
                f"{first.zh_counted}在{second.zh_counted}的{zh_relation}",
                f"{second.zh}在{first.zh}的{zh_inverse}",
            ],
            "en": [
                f"{first.en} {en_relation} {second.en}",
                f"{second.en} {en_inverse} {first.en}",
            ],
        }
    zh_order, en_order = {"left": ("从左到右", "from left to right"), "above": ("从上到下", "from top to bottom")}[
        plan.relation
    ]
    zh_list = f"{'、'.join(thing.zh for thing in things[:-1])}和{things[-1].zh}"
    en_list = f"{', '.join(thing.en for thing in things[:-1])} and {things[-1].en}"
    return {
        "zh": [f"{zh_order}是{zh_list}", f"{zh_list}，{zh_order}"],
        "en": [f"{en_list}, {en_order}", f"{en_order}: {en_list}"],
    }


@functools.lru_cache(maxsize=4096)
def _shape(key: str, side: int) -> Any:
    return shape_mask(key, side)


@functools.lru_cache(maxsize=4096)
def _silhouette(emoji: str, side: int) -> Any:
    from PIL import Image

    from ernie_vilg_jax.preparation.sources.emoji import IconSet, icon_set, render_svg

    art = icon_set(SILHOUETTES)
    assert isinstance(art, IconSet)
    icon = art.find(emoji)
    assert icon is not None
    png = render_svg(art.svg(icon).replace("currentColor", "#000000"), side)
    return Image.open(io.BytesIO(png)).convert("RGBA").getchannel("A")
