"""Loss weights inside boxes, against a slow reference that counts points."""

import numpy as np
import pytest

from ernie_vilg_jax.knowledge.loss_weights import clip_boxes, crop_boxes, weight_map

NAN, INF = float("nan"), float("inf")


def by_points(boxes: list, size: tuple[int, int], weight: float, points: int = 20) -> np.ndarray:
    """Each cell's weight from a grid of points x points in it, one after the other."""
    height, width = size
    result = np.empty(size)
    for row in range(height):
        for column in range(width):
            inside = 0
            for i in range(points):
                for j in range(points):
                    y, x = (row + (i + 0.5) / points) / height, (column + (j + 0.5) / points) / width
                    inside += any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in boxes)
            result[row, column] = 1 + weight * inside / points**2
    return result


@pytest.mark.parametrize(
    ("boxes", "size"),
    [
        ([(0.1, 0.2, 0.55, 0.9)], (4, 4)),
        ([(0.1, 0.2, 0.55, 0.9)], (3, 5)),  # not square
        ([(0.1, 0.1, 0.6, 0.6), (0.4, 0.3, 0.95, 0.9)], (4, 4)),  # overlapping
        ([(0.0, 0.0, 0.3, 1.0), (0.3, 0.0, 0.6, 1.0)], (1, 1)),  # side by side in one cell
        ([(0.1, 0.1, 0.9, 0.9), (0.2, 0.2, 0.5, 0.5)], (3, 3)),  # one within the other
        ([(0.2, 0.2, 0.4, 0.4)] * 3, (4, 4)),  # the same thrice
        ([(0.45, 0.45, 0.5, 0.5)], (4, 4)),  # smaller than a cell
        ([(0.25, 0.5, 0.5, 0.75)], (4, 4)),  # exactly one cell
        ([(-0.5, 0.3, 0.35, 1.7)], (4, 4)),  # partly outside
        ([(0.0, 0.0, 1.0, 1.0)], (2, 3)),
        ([(-3.0, -3.0, 4.0, 4.0)], (2, 3)),
        ([(0.05 * k, 0.1, 0.05 * k + 0.3, 0.7) for k in range(14)], (5, 5)),
    ],
)
def test_weights_against_points(boxes: list, size: tuple[int, int]):
    weights = weight_map(boxes, size, 0.5)
    assert weights.shape == size and weights.dtype == np.float32
    np.testing.assert_allclose(weights, by_points(boxes, size, 0.5), atol=1e-6)


def test_weights_of_random_boxes():
    """Edges fall between the points here, so the reference is off by up to their distance."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        boxes = [tuple(box) for box in rng.uniform(-0.3, 1.3, (rng.integers(1, 5), 4))]
        np.testing.assert_allclose(weight_map(boxes, (3, 4), 1.0), by_points(boxes, (3, 4), 1.0, 25), atol=0.09)


def test_the_share_of_a_cell_is_exact():
    weights = weight_map([(0.0, 0.0, 0.3, 0.5)], (1, 2), 0.1)
    np.testing.assert_allclose(weights, [[1 + 0.1 * 0.6 * 0.5, 1.0]], rtol=1e-6)


@pytest.mark.parametrize(
    "box",
    [
        (0.2, 0.2, 0.2, 0.8),  # no area
        (0.5, 0.5, 0.5, 0.5),
        (0.8, 0.2, 0.3, 0.9),  # left and right exchanged
        (0.2, 0.9, 0.8, 0.2),
        (1.0, 0.0, 1.5, 1.0),  # outside
        (-1.0, 0.0, 0.0, 1.0),
        (NAN, 0.0, 1.0, 1.0),
        (0.0, 0.0, INF, 1.0),
        (0.0, 0.0, 1.0),
        None,
        "abcd",
        ("a", 0, 1, 1),
    ],
)
def test_invalid_boxes_add_nothing(box):
    assert (weight_map([box], (4, 4), 0.1) == 1).all()
    good = (0.1, 0.1, 0.6, 0.6)
    np.testing.assert_array_equal(weight_map([box, good], (4, 4), 0.1), weight_map([good], (4, 4), 0.1))


def test_no_boxes_and_no_weight():
    assert (weight_map([], (2, 3), 0.1) == 1).all()
    assert (weight_map(np.zeros((0, 4)), (2, 3), 0.1) == 1).all()
    assert (weight_map([(0, 0, 1, 1)], (2, 3), 0.0) == 1).all()


def test_weights_do_not_exceed_one_plus_weight():
    boxes = np.random.default_rng(1).uniform(0, 1, (50, 4))
    weights = weight_map(boxes, (16, 16), 0.1)
    assert weights.min() >= 1 and weights.max() <= np.float32(1.1)


def test_clip_boxes():
    assert clip_boxes([(-1, 0.2, 0.5, 2), (2, 2, 3, 3), (0.1, 0.2, 0.3, 0.4)]) == [
        (0, 0.2, 0.5, 1),
        (0.1, 0.2, 0.3, 0.4),
    ]


def test_boxes_of_a_crop():
    # An image of 200 x 100; the crop takes its right half. The box spans its left quarter to its middle of the right.
    assert crop_boxes([(0.25, 0.1, 0.75, 0.6)], 100, 0, 100, 100, 200, 100) == [(-0.5, 0.1, 0.5, 0.6)]
    assert crop_boxes([], 0, 0, 10, 10, 10, 10) == []


def test_weights_of_a_crop_are_the_crop_of_the_weights():
    boxes = [(0.2, 0.1, 0.7, 0.8), (0.5, 0.5, 0.9, 0.95)]
    whole = weight_map(boxes, (100, 100), 0.1)
    cropped = weight_map(crop_boxes(boxes, 30, 20, 60, 40, 100, 100), (40, 60), 0.1)
    np.testing.assert_allclose(cropped, whole[20:60, 30:90], rtol=1e-6)


def test_a_crop_keeps_one_box_for_each_given():
    result = crop_boxes([None, (0, 0, 1, 1)], 0, 0, 10, 10, 10, 10)  # type: ignore[list-item]
    assert np.isnan(result[0]).all() and result[1] == (0, 0, 1, 1)
