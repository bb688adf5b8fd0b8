"""The grammar reads captions of composed scenes as the facts of their plans."""

import random

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.binding.facts import Fact, Mention, facts_from
from ernie_vilg_jax.evaluation.binding.grammar import facts_of
from ernie_vilg_jax.evaluation.binding.sentences import INVERSE
from ernie_vilg_jax.preparation.sources.composed.captions import captions
from ernie_vilg_jax.preparation.sources.composed.source import ComposedSource
from ernie_vilg_jax.preparation.sources.composed.vocabulary import THINGS

NOUNS = tuple(thing.noun for thing in THINGS.values())
SHAPES = tuple(name for name, thing in THINGS.items() if thing.shape)


def canonical(facts) -> set[Fact]:
    """With "a right of b" as "b left of a"."""
    return {
        Fact("relation", f.other, f.other_colour, 0, INVERSE[f.relation], f.noun, f.colour)
        if f.relation in ("right", "below")
        else f
        for f in facts
    }


def test_captions_state_the_facts_of_their_plan():
    source = ComposedSource(seed=5, things=SHAPES, looks=("noto", "pixel", "watercolour", "outline"))
    read = total = 0
    for index in range(300):
        plan = source.plan(index)
        mentions = [Mention(p.thing, p.colour, p.number if p.number > 1 else 0) for p in plan.parts]
        expected = canonical(facts_from(mentions, plan.relation))
        for text in (t for several in captions(plan, random.Random(index), 2).values() for t in several):
            total += 1
            try:
                found = canonical(facts_of(text, NOUNS))
            except UserError:
                continue
            assert found == expected, text
            read += 1
    assert read > 0.85 * total
