"""Composed scenes, of drawn shapes alone: nothing is fetched."""

import itertools

import numpy as np
import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import decode_image
from ernie_vilg_jax.preparation.sources import Source
from ernie_vilg_jax.preparation.sources.composed.captions import plain_caption
from ernie_vilg_jax.preparation.sources.composed.plans import pair_unit
from ernie_vilg_jax.preparation.sources.composed.source import ComposedSource
from ernie_vilg_jax.preparation.sources.composed.vocabulary import THINGS
from ernie_vilg_jax.preparation.sources.nouns import Noun
from ernie_vilg_jax.preparation.sources.scenes import COLOURS
from ernie_vilg_jax.preparation.sources.shapes import SHAPES
from tests.small_data import records_of

NAMES = tuple(name.en for name, _ in SHAPES.values())


@pytest.fixture(scope="module")
def source() -> ComposedSource:
    return ComposedSource(count=150, seed=1, things=NAMES, looks=("noto",))


def test_a_record_depends_on_seed_and_number_alone(source: ComposedSource):
    assert isinstance(source, Source)
    again = ComposedSource(count=5, seed=1, things=NAMES, looks=("noto",))
    assert [again.record(i) for i in (3, 1)] == [source.record(i) for i in (3, 1)]
    assert ComposedSource(seed=2, things=NAMES, looks=("noto",)).record(1) != source.record(1)
    assert records_of(source)[3].id == source.record(3).id


def test_things_stand_in_the_stated_relation_and_colour(source: ComposedSource):
    for index in range(source.count):
        plan, record = source.plan(index), source.record(index)
        pixels = np.asarray(decode_image(record.image)).astype(int)
        boxes = iter(record.objects)
        centres = []
        for part in plan.parts:
            mine = [next(boxes)["box"] for _ in range(part.number)]
            for x0, y0, x1, y1 in mine:
                cut = pixels[round(y0 * 64) : round(y1 * 64), round(x0 * 64) : round(x1 * 64)].reshape(-1, 3)
                assert (np.abs(cut - COLOURS[part.colour][1]).max(1) < 8).sum() > 5, (index, part)
            centres.append([((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in mine])
        if plan.relation in ("left", "right", "above", "below"):
            axis, sign = {"left": (0, 1), "right": (0, -1), "above": (1, 1), "below": (1, -1)}[plan.relation]
            for first, second in itertools.pairwise(centres):
                assert max(sign * c[axis] for c in first) < min(sign * c[axis] for c in second), (index, plan)


def test_captions_name_every_thing_and_colour(source: ComposedSource):
    for index in range(source.count):
        plan, record = source.plan(index), source.record(index)
        for part in plan.parts:
            noun = THINGS[part.thing].noun
            for text in record.captions["en"]:
                assert part.colour in text and (noun.plural if part.number > 1 else noun.en) in text
            assert all(noun.zh in text for text in record.captions["zh"])
        assert plain_caption(plan, "en", style=False) == plain_caption(plan, "en", style=False)


def test_units_do_not_depend_on_the_order_of_saying():
    assert pair_unit("cat", "left", "dog") == pair_unit("dog", "right", "cat") != pair_unit("cat", "right", "dog")
    assert pair_unit("cat", "", "dog") == pair_unit("dog", "", "cat")


@pytest.mark.parametrize("options", [{"things": ("unheard",)}, {"looks": ("pixel",)}, {"count": 0}])
def test_bad_options_are_refused(options: dict):
    with pytest.raises(UserError):
        ComposedSource(**options)


@pytest.mark.parametrize(
    ("noun", "plural"), [("tomato", "tomatoes"), ("snowman", "snowmen"), ("pair of glasses", "pairs of glasses")]
)
def test_plurals(noun: str, plural: str):
    assert Noun(noun, "").plural == plural
