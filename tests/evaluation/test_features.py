"""Features are computed once, kept, and never of other images or another network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation import features
from ernie_vilg_jax.evaluation.features import features_of
from ernie_vilg_jax.evaluation.image_sets import Files


class Means:
    """The mean of each channel; remembers how many images it saw."""

    name = "means"

    def __init__(self, fingerprint: str = "a") -> None:
        self.fingerprint, self.seen = fingerprint, 0

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        self.seen += len(images)
        return np.array([image.mean((0, 1)) for image in images], np.float32)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setattr(features, "PIECE", 4)
    for shade in range(10):
        Image.new("RGB", (3, 2), (shade, 2 * shade, 7)).save(tmp_path / f"{shade}.png")
    return Files(tuple(tmp_path / f"{shade}.png" for shade in range(10)))


EXPECTED = np.array([[shade, 2 * shade, 7] for shade in range(10)], np.float32)


def test_features_are_in_order_and_computed_once(images: Files, tmp_path: Path) -> None:
    network = Means()
    np.testing.assert_array_equal(features_of(network, images, tmp_path / "kept"), EXPECTED)
    np.testing.assert_array_equal(features_of(network, images, tmp_path / "kept"), EXPECTED)
    assert network.seen == 10


def test_what_is_missing_is_computed_and_the_rest_is_kept(images: Files, tmp_path: Path) -> None:
    network, kept = Means(), tmp_path / "kept"
    features_of(network, images, kept)
    pieces = sorted((kept / "means").iterdir())
    assert len(pieces) == 3
    pieces[0].unlink()
    pieces[1].write_bytes(pieces[1].read_bytes()[:50])
    again = Means()
    np.testing.assert_array_equal(features_of(again, images, kept), EXPECTED)
    assert 4 <= again.seen <= 8


def test_other_images_and_another_network_are_computed_anew(images: Files, tmp_path: Path) -> None:
    features_of(Means(), images, tmp_path / "kept")
    Image.new("RGB", (3, 2), (99, 99, 99)).save(images.files[5])
    changed = Means()
    assert features_of(changed, images, tmp_path / "kept")[5].tolist() == [99, 99, 99]
    assert changed.seen == 4
    other = Means("b")
    features_of(other, images, tmp_path / "kept")
    assert other.seen == 10


def test_a_damaged_image_is_named_and_what_was_done_before_it_is_kept(images: Files, tmp_path: Path) -> None:
    images.files[9].write_bytes(b"GIF")
    with pytest.raises(UserError, match=r"9\.png cannot be read"):
        features_of(Means(), images, tmp_path / "kept")
    Image.new("RGB", (3, 2), (9, 18, 7)).save(images.files[9])
    network = Means()
    np.testing.assert_array_equal(features_of(network, images, tmp_path / "kept"), EXPECTED)
    assert network.seen == 2
