"""Prompts that need no file, for models of the demo's domain.

| name | prompts |
| --- | --- |
| things | each everyday thing that the model was trained on, in both languages |
| shapes | drawn shapes: each colour and shape alone, and pairs with a relation, drawn by a fixed seed |
| demo | both |
"""

import random
from collections.abc import Container

from ml_collections import ConfigDict

from ernie_vilg_jax.pipeline.prompts import Prompt
from ernie_vilg_jax.preparation.sources.everyday import EVERYDAY, with_article
from ernie_vilg_jax.preparation.sources.scenes import COLOURS, RELATIONS, Plan, Thing, captions
from ernie_vilg_jax.preparation.sources.shapes import SHAPES

SETS = ("things", "shapes", "demo")
PAIRS = 64
"""Scenes of two shapes."""


def prompt_set(name: str, config: ConfigDict | None) -> list[Prompt]:
    """The prompts of a set.

    Args:
      name: one of SETS.
      config: of the model, which says which things it was trained on; None takes all everyday things.
    """
    return [*(_things(_only(config)) if name != "shapes" else ()), *(_shapes() if name != "things" else ())]


def _only(config: ConfigDict | None) -> Container[str]:
    """English names of the things that the model of a config was trained on."""
    sources = () if config is None else config.data.sources
    named = [name for source in sources if source["name"] == "emoji" for name in source.get("only", ())]
    return frozenset(named or (concept.en for concept in EVERYDAY.values()))


def _things(only: Container[str]) -> list[Prompt]:
    prompts = []
    for number, thing in enumerate(thing for thing in EVERYDAY.values() if thing.en in only):
        zh = f"一{thing.measure}{thing.zh}" if thing.measure else thing.zh
        for language, text in (("en", with_article(thing.en) if thing.article else thing.en), ("zh", zh)):
            prompts.append(Prompt(f"thing_{number:03d}_{language}", text, language, "one thing"))
    return prompts


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
