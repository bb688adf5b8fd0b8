"""The checker of photographs: a detector's boxes and a network's colours become verdicts."""

import numpy as np
import pytest

from ernie_vilg_jax.annotation.detectors import Detection, make_detector
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.binding.facts import Fact
from ernie_vilg_jax.evaluation.binding.grammar import facts_of
from ernie_vilg_jax.evaluation.binding.photographs import COLOURS, PhotoChecker
from ernie_vilg_jax.preparation.sources.scenes import COLOURS as SCENE_COLOURS
from tests.annotation import model_folders

RGB = {**{name: rgb for name, (_, rgb) in SCENE_COLOURS.items()}, "white": (255, 255, 255)}


class FakeDetector:
    """Finds what it is told, in every image."""

    def __init__(self, *found):
        self.found = list(found)

    def detect(self, images, ids):
        assert len(images) == len(ids)
        return [self.found for _ in images]


class FakeClip:
    """Images and texts as their mean colour, away from grey: cosines are highest for the nearest hue."""

    name, fingerprint = "fake", "0"

    def __call__(self, images):
        return np.stack([image.reshape(-1, 3).mean(0) - 128 for image in images]).astype(np.float32)

    def texts(self, texts):
        for text in texts:
            assert text.startswith("a photo of a ")
        return np.stack([np.asarray(RGB[text.split()[4]], np.float32) - 128 for text in texts])


def image():
    """Red on the left, blue on the right."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40], pixels[:, 40:] = RGB["red"], RGB["blue"]
    return pixels


CAR = Detection({"en": "car", "zh": "汽车"}, (0.05, 0.2, 0.45, 0.8), 0.9)
DOG = Detection({"en": "dog", "zh": "狗"}, (0.55, 0.2, 0.95, 0.8), 0.8)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red car", [0.9, 0.9]),
        ("a blue car", [0.9, 0.0]),
        ("一只蓝色的狗", [0.8, 0.8]),
        ("a car to the left of a dog", [0.9, 0.8, 0.72]),
        ("a dog to the left of a car", [0.8, 0.9, 0.0]),
        ("two cars", [0.9, 0.0]),
        ("exactly one car", [0.9, 0.9]),
        ("a cup", [0.0]),
    ],
)
def test_verdicts(prompt, expected):
    checker = PhotoChecker(FakeDetector(CAR, DOG), FakeClip())
    (judged,) = checker.check([image()], [facts_of(prompt, checker.nouns)])
    assert [verdict.probability for verdict in judged.verdicts] == pytest.approx(expected, abs=0.02)


def test_labels_outside_the_nouns_are_ignored():
    checker = PhotoChecker(FakeDetector(Detection({"en": "gizmo"}, (0, 0, 1, 1), 1.0)), FakeClip())
    assert not checker.check([image()], [facts_of("a cat")])[0].all_right


@pytest.mark.parametrize(
    ("fact", "colours", "message"),
    [
        (Fact("colour", "car", "red"), None, "need a network of images and texts"),
        (Fact("colour", "car", "beige"), FakeClip(), "colour 'beige' is not known"),
        (Fact("object", "castle"), FakeClip(), "does not know 'castle'"),
    ],
)
def test_what_cannot_be_judged_is_refused(fact, colours, message):
    with pytest.raises(UserError, match=message):
        PhotoChecker(FakeDetector(), colours).check([image()], [[fact]])


def test_a_detector_of_transformers_fits(tmp_path):
    """Tiny and with random weights: the plumbing alone."""
    pytest.importorskip("torch")
    model = model_folders.rt_detr(tmp_path / "detector", {0: "dog", 1: "car"})
    checker = PhotoChecker(make_detector("transformers", model=str(model), threshold=0.0), FakeClip())
    (judged,) = checker.check([image()], [facts_of("a red car to the left of a dog")])
    assert {thing for seen in judged.seen for thing in seen.nouns} <= {"dog", "car"}
    assert judged.seen and all(0 <= verdict.probability <= 1 for verdict in judged.verdicts)
    assert all(set(seen.colours) == set(COLOURS) for seen in judged.seen if "car" in seen.nouns)
