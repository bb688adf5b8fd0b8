import io
import itertools
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.sources import Source
from ernie_vilg_jax.preparation.sources.scenes import COLOURS, GROUNDS, RELATIONS, SceneSource, captions
from ernie_vilg_jax.preparation.sources.shapes import SHAPES, shape_mask
from tests.small_data import records_of


@pytest.fixture(scope="module")
def source() -> SceneSource:
    return SceneSource(size=64, count=200, seed=1)


@pytest.fixture(scope="module")
def records(source: SceneSource) -> list[Record]:
    return records_of(source)


def pixels(record: Record) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(record.image)).convert("RGB"), np.int16)


def test_it_is_a_source(source: SceneSource):
    assert isinstance(source, Source)
    assert [record.id for record in records_of(source)][3] == source.record(3).id


def test_a_record_depends_on_the_seed_and_its_number_alone(source: SceneSource, records: list[Record]):
    again = SceneSource(size=64, count=5, seed=1)
    assert [again.record(n) for n in range(5)] == records[:5]
    assert SceneSource(size=64, count=5, seed=2).record(0) != records[0]


def test_every_option_changes_the_fingerprint():
    options = [{}, {"size": 32}, {"count": 10}, {"seed": 1}, {"simple": True}, {"single": 0.1}]
    assert len({SceneSource(**option).fingerprint() for option in options}) == len(options)
    assert SceneSource().fingerprint() == SceneSource().fingerprint()


def test_boxes_are_exactly_the_pixels_that_differ_from_the_ground(records: list[Record]):
    for record in records:
        image = pixels(record)
        ground = next(g for g in GROUNDS if (image[0, 0] == g).all())
        inked = (image != np.array(ground)).any(-1)
        covered = np.zeros_like(inked)
        for item in record.objects:
            x0, y0, x1, y1 = (round(value * 64) for value in item["box"])
            inside = inked[y0:y1, x0:x1]
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
            assert not covered[y0:y1, x0:x1].any()  # boxes do not overlap
            covered[y0:y1, x0:x1] = True
        assert not (inked & ~covered).any()


def test_each_object_has_the_colour_that_its_caption_names(source: SceneSource, records: list[Record]):
    for index, record in enumerate(records):
        image = pixels(record)
        for thing, item in zip(source.plan(index).things, record.objects, strict=True):
            x0, y0, x1, y1 = (round(value * 64) for value in item["box"])
            assert (image[y0:y1, x0:x1] == COLOURS[thing.colour][1]).all(-1).sum() > 0.15 * (x1 - x0) * (y1 - y0)


def test_stated_relations_are_true_of_the_boxes(source: SceneSource, records: list[Record]):
    seen: Counter[str] = Counter()
    for index, record in enumerate(records):
        plan, boxes = source.plan(index), [item["box"] for item in record.objects]
        for first, second in itertools.pairwise(boxes):
            apart = {
                "left": first[2] <= second[0],
                "right": first[0] >= second[2],
                "above": first[3] <= second[1],
                "below": first[1] >= second[3],
            }
            assert apart[plan.relation]
        seen[f"{len(boxes)} {plan.relation}"] += 1
    assert {f"2 {relation}" for relation in RELATIONS} < set(seen)
    assert seen["1 "] and seen["3 left"] and seen["3 above"]


def test_captions_of_two_things_say_the_same_in_both_directions():
    source = SceneSource(count=100, single=0.0, simple=True)
    index = next(n for n in range(100) if source.plan(n).relation == "right")
    plan = source.plan(index)
    first, second = plan.things
    sentences = captions(plan)
    zh = {colour: name for colour, (name, _) in COLOURS.items()}
    assert sentences["zh"][0] == f"{zh[first.colour]}的{first.noun.zh}在{zh[second.colour]}的{second.noun.zh}的右边"
    assert sentences["en"] == [
        f"{first.en} to the right of {second.en}",
        f"{second.en} to the left of {first.en}",
    ]


def test_english_articles_fit(records: list[Record]):
    for record in records:
        words = " ".join(record.captions["en"]).replace(",", "").replace(":", "").split()
        for article, word in itertools.pairwise(words):
            if article in ("a", "an"):
                assert (article == "an") == (word[0] in "aeiou"), record.captions


def test_simple_scenes_have_at_most_two_things_on_white():
    for record in records_of(SceneSource(count=60, simple=True)):
        assert len(record.objects) <= 2
        assert (pixels(record)[0, 0] == 255).all()


def test_units_of_the_split_are_colour_and_shape(source: SceneSource):
    for index, record in enumerate(records_of(source)):
        units = record.concept.split("+")
        assert units == [f"shape/{thing.colour}-{thing.key}" for thing in source.plan(index).things]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_drawn_large_and_smooth(shape: str):
    mask = np.asarray(shape_mask(shape, 40))
    assert mask.shape == (40, 40)
    share = (mask > 127).mean()
    assert 0.2 < share < 0.95
    rows, columns = np.where(mask > 127)
    assert rows.max() - rows.min() > 30 and columns.max() - columns.min() > 30
    assert shape in ("square", "cross") or len(np.unique(mask)) > 4  # anti-aliased edges


def test_shapes_differ_from_each_other():
    masks = [np.asarray(shape_mask(shape, 32), np.float32) / 255 for shape in SHAPES]
    for i, one in enumerate(masks):
        assert all(np.abs(one - other).mean() > 0.05 for other in masks[:i])


def test_shapes_and_colours_can_be_chosen():
    source = SceneSource(count=60, shapes=("circle", "star", "heart"), colours=("red", "blue", "green"))
    things = [thing for index in range(60) for thing in source.plan(index).things]
    assert {thing.key for thing in things} == {"circle", "star", "heart"}
    assert {thing.colour for thing in things} == {"red", "blue", "green"}
    assert source.fingerprint() != SceneSource(count=60).fingerprint()


@pytest.mark.parametrize(
    "options",
    [
        {"shapes": ("circle", "star", "cube")},
        {"colours": ("red", "blue", "beige")},
        {"shapes": ("circle", "star", "star")},
        {"colours": ("red",)},
        {"shapes": ("circle", "star", "heart"), "objects": "emoji"},
    ],
)
def test_choices_that_make_no_sense_are_one_sentence(options: dict[str, object]):
    with pytest.raises(UserError, match="source 'scenes': "):
        SceneSource(**options)  # type: ignore[arg-type]
