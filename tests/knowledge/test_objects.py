"""Choice of salient objects, construction of detectors."""

import math
from typing import Any

import pytest

from ernie_vilg_jax.annotation.detectors import Detection, detection, make_detector
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.knowledge.objects import salient


def thing(box: Any, score: Any = 0.9) -> dict[str, Any]:
    return {"name": {"en": "thing"}, "box": box, "score": score}


def test_salient_objects_come_by_area_times_score():
    objects = [
        thing([0, 0, 0.5, 0.5], 0.6),  # 0.15
        thing([0, 0, 0.4, 0.5], 0.9),  # 0.18
        thing([0, 0, 1, 1], 0.55),  # 0.55
    ]
    assert salient(objects) == [2, 1, 0]
    assert salient(objects, top_k=2) == [2, 1]
    assert salient(objects, min_score=0.6) == [1]  # the score must be greater
    assert salient(objects, top_k=0) == []


def test_equal_objects_keep_their_order():
    assert salient([thing([0, 0, 0.5, 0.5])] * 7) == [0, 1, 2, 3, 4]


def test_only_the_part_in_the_image_counts():
    assert salient([thing([-9, 0, 0.1, 1]), thing([0, 0, 0.2, 1])]) == [1, 0]


@pytest.mark.parametrize(
    "box", [[0.5, 0.5, 0.5, 0.9], [0.8, 0, 0.2, 1], [1, 0, 2, 1], [math.nan, 0, 1, 1], [0, 0, 1], None, "abcd"]
)
def test_empty_boxes_are_not_salient(box):
    assert salient([thing(box)]) == []


def test_scores_may_be_missing_or_broken():
    assert salient([{"box": [0, 0, 1, 1]}, thing([0, 0, 1, 1], math.nan), thing([0, 0, 1, 1], None)]) == [0]


def test_a_detection_is_clipped_to_the_image():
    name = {"en": "cup"}
    assert detection(name, (-0.1, 0.123456789, 0.5, 1.2), 1.1) == Detection(name, (0.0, 0.12346, 0.5, 1.0), 1.0)
    assert detection(name, (1.0, 0.0, 1.2, 1.0), 0.5) is None
    assert detection(name, (0.0, 0.0, math.nan, 1.0), 0.5) is None
    assert detection(name, (0.0, 0.0, 1.0, 1.0), math.inf) is None


def test_unknown_detectors_and_options():
    with pytest.raises(UserError, match="'yolo' must be one of transformers, boxes"):
        make_detector("yolo")
    with pytest.raises(UserError, match="'boxes' has no option 'model'"):
        make_detector("boxes", path="a.json", model="x")
    with pytest.raises(UserError, match="'transformers' needs the option 'model'"):
        make_detector("transformers")
