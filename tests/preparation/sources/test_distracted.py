import random

import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.sources import Source, make_source
from ernie_vilg_jax.preparation.sources.distracted import PLAIN, DistractedSource, distracted
from ernie_vilg_jax.preparation.sources.scenes import COLOURS
from ernie_vilg_jax.tables import rows
from tests.small_data import records_of


@pytest.fixture(scope="module")
def source() -> DistractedSource:
    return DistractedSource(size=32, count=300, seed=1)


def test_it_is_a_source_that_repeats_itself(source):
    assert isinstance(make_source({"name": "distracted"}, size=32), Source)
    assert records_of(source)[3].id == source.record(3).id
    again = DistractedSource(size=32, count=5, seed=1)
    assert [again.record(n) for n in range(5)] == [source.record(n) for n in range(5)]


def test_boxes_are_of_all_things_and_half_of_the_things_are_named(source):
    records = records_of(source)
    named = [
        sum(thing["name"]["en"] in caption for thing in record.objects)
        for record in records
        for caption in record.captions["en"][:1]
    ]
    things = [len(record.objects) for record in records]
    assert set(things) == {1, 2, 3}
    assert 0.5 < sum(named) / sum(things) < 0.75  # at least one is named, or half of them
    assert min(named) >= 1


def test_key_words_are_those_that_captions_name(source):
    for record in records_of(source):
        for language in ("zh", "en"):
            for word in record.keywords[language]:
                assert all(word in caption for caption in record.captions[language])
            assert len(record.keywords[language]) >= 2


def test_distractions_name_neither_things_nor_colours(source):
    words = {word for phrase in rows("scenes/distractors.tsv") for word in phrase[1].split()}
    nouns = {thing.noun.en for index in range(300) for thing in source.plan(index).things}
    assert not words & (set(COLOURS) | nouns)


def test_some_captions_are_plain_and_the_others_have_up_to_three_phrases():
    draw = random.Random(0)
    counts = [distracted("a red star", "en", draw).count(", ") for _ in range(1000)]
    assert set(counts) == {0, 1, 2, 3}
    assert abs(counts.count(0) / 1000 - PLAIN) < 0.05


@pytest.mark.parametrize("options", [{"objects": "emoji"}, {"unsaid": 1.0}, {"unsaid": -0.1}])
def test_options_that_make_no_sense(options):
    with pytest.raises(UserError, match="source 'distracted'"):
        DistractedSource(**options)
