"""Prompts that need no file, for models of the demo's domain.

| name | prompts |
| --- | --- |
| things | each everyday thing that the model was trained on, in both languages |
| shapes | drawn shapes: each colour and shape alone, and pairs with a relation, drawn by a fixed seed |
| composed | combinations that a model of the composed source never saw: colour, two things, relation, count, style |
| demo | things and shapes, and composed for a model of that source |
| free | 14 prompts that people might type, four times each |
"""

import random
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from ernie_vilg_jax.evaluation.binding.nouns import EVERYDAY_NOUNS
from ernie_vilg_jax.knowledge.words import language_of
from ernie_vilg_jax.pipeline.prompts import Prompt
from ernie_vilg_jax.preparation.sources.composed.captions import plain_caption
from ernie_vilg_jax.preparation.sources.composed.source import ComposedSource
from ernie_vilg_jax.preparation.sources.composed.vocabulary import THINGS
from ernie_vilg_jax.preparation.sources.nouns import Noun, alone
from ernie_vilg_jax.preparation.sources.scenes import COLOURS, RELATIONS, Plan, Thing, captions
from ernie_vilg_jax.preparation.sources.shapes import SHAPES
from ernie_vilg_jax.preparation.splits import is_held_out

SETS = ("things", "shapes", "demo", "composed", "free")
EACH = 48
"""Prompts of a category of "composed", at most."""
SEARCHED = 40_000
"""Scenes searched for them."""
HELD_OUT: dict[str, tuple[tuple[str, ...], str]] = {
    "colour": (("single", "related", "beside"), "colour/"),
    "two things": (("beside",), "pair/"),
    "relation": (("related",), "pair/"),
    "count": (("count",), "count/"),
    "style": (("single",), "look/"),
}
"""Category -> kinds of scenes, and what the held-out unit begins with."""
FREE = (
    *("a panda with a red hat", "a blue apple and a red banana", "three yellow birds", "a square above a circle"),
    *("a green heart to the left of a purple star", "two red cars", "a smiling sun", "a house on fire"),
    *("a pixel dragon", "an astronaut on a horse", "a watercolour apple", "a cat", "一只猫"),
    "a red circle to the right of a blue square",
)
PAIRS = 64
"""Scenes of two shapes."""


def prompt_set(name: str, config: ConfigDict | None) -> list[Prompt]:
    """The prompts of a set.

    Args:
      name: one of SETS.
      config: of the model, which says which things it was trained on; None takes all everyday things.
    """
    if name == "free":
        texts = enumerate(FREE)
        return [Prompt(f"free_{n:02d}_{k}", text, language_of(text), "free") for n, text in texts for k in range(4)]
    if name == "composed":
        return _composed(config)
    composed = name == "demo" and _options(config, "composed") is not None
    return [
        *(_things(known_things(config)) if name != "shapes" else ()),
        *(_shapes() if name != "things" else ()),
        *(_composed(config) if composed else ()),
    ]


def _composed(config: ConfigDict | None) -> list[Prompt]:
    """Scenes of the source, drawn by another seed, that show a held-out combination of their category's kind."""
    options = _options(config, "composed") or {}
    fraction = 0.02 if config is None else float(config.data.holdout_fraction)
    seed = int(options.get("seed", 0)) + 1
    source = ComposedSource(seed=seed, things=tuple(options.get("things", ())), looks=tuple(options.get("looks", ())))
    found: dict[str, list[Prompt]] = {category: [] for category in HELD_OUT}
    for index in range(SEARCHED):
        plan = source.plan(index)
        if any(part.trait for part in plan.parts):  # of which no fact speaks
            continue
        held = [unit for unit in plan.units if is_held_out(unit, fraction)]
        for category, (kinds, start) in HELD_OUT.items():
            mine = found[category]
            if len(mine) == EACH or plan.kind not in kinds or not any(unit.startswith(start) for unit in held):
                continue
            language = ("zh", "en")[len(mine) % 2]
            text = plain_caption(plan, language, style=category == "style")
            mine.append(Prompt(f"{category.replace(' ', '_')}_{len(mine):02d}", text, language, category))
    return [prompt for prompts in found.values() for prompt in prompts]


def _options(config: ConfigDict | None, name: str) -> dict[str, Any] | None:
    """The options of a source of the config; None if it is not among them."""
    sources = () if config is None else config.data.sources
    return next((dict(source) for source in sources if source["name"] == name), None)


def known_things(config: ConfigDict | None) -> list[Noun]:
    """The things, drawn shapes left out, that a model of a config was trained on; without one, all everyday things."""
    if (composed := _options(config, "composed")) is not None:
        return [THINGS[name].noun for name in composed.get("things") or THINGS if not THINGS[name].shape]
    only = (_options(config, "emoji") or {}).get("only")
    return [noun for noun in EVERYDAY_NOUNS if not only or noun.en in only]


def _things(nouns: Iterable[Noun]) -> list[Prompt]:
    return [
        Prompt(f"thing_{number:03d}_{language}", alone(noun, language), language, "one thing")
        for number, noun in enumerate(nouns)
        for language in ("en", "zh")
    ]


def _shapes() -> list[Prompt]:
    things = [Thing(key, noun, colour) for key, (noun, _) in SHAPES.items() for colour in COLOURS]
    plans = [Plan((thing,), "", (), (255, 255, 255)) for thing in things]
    draw = random.Random(0)
    while len(plans) < len(things) + PAIRS:
        first, second = draw.sample(things, 2)
        if first.key != second.key and first.colour != second.colour:
            plans.append(Plan((first, second), draw.choice(sorted(RELATIONS)), (), (255, 255, 255)))
    prompts = []
    for number, plan in enumerate(plans):
        language = ("zh", "en")[number % 2]
        text = captions(plan)[language][1 if len(plan.things) == 1 else 0]
        category = ("one shape", "two shapes")[len(plan.things) - 1]
        prompts.append(Prompt(f"scene_{number:03d}", text, language, category))
    return prompts
