"""The perceptual hash and what counts as near."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax.preparation.filters import BANDS, DISTANCE, bands, near, perceptual_hash


def photograph(seed: int, side: int, quality: int) -> bytes:
    """A JPEG of smooth random colours, the same at every size."""
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    image = (
        Image.fromarray(small)
        .resize((192, 192), Image.Resampling.BICUBIC)
        .resize((side, side), Image.Resampling.LANCZOS)
    )
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def distance(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def test_the_hash_stays_when_an_image_is_scaled_or_compressed_and_tells_others_apart():
    hashes = [
        [perceptual_hash(photograph(seed, *how)) for how in ((160, 95), (80, 80), (72, 70))] for seed in range(20)
    ]
    assert max(distance(mine[0], other) for mine in hashes for other in mine) <= DISTANCE
    others = [distance(a[0], b[0]) for n, a in enumerate(hashes) for b in hashes[:n]]
    assert min(others) > 2 * DISTANCE


def test_hashes_within_the_distance_share_a_band():
    draw = random.Random(0)
    for _ in range(300):
        value = draw.getrandbits(64)
        other = value
        for bit in draw.sample(range(64), DISTANCE):
            other ^= 1 << bit
        assert set(bands(value)) & set(bands(other))
    assert len(set(bands(0))) == BANDS, "pieces of different places are different"


@pytest.mark.parametrize("count", [0, 1, 50])
def test_near_ones_are_those_of_a_plain_search(count: int):
    draw = random.Random(count)
    hashes: list[int] = []
    for _ in range(count):
        base = draw.choice(hashes) if hashes and draw.random() < 0.6 else draw.getrandbits(64)
        for bit in draw.sample(range(64), draw.choice((0, 1, DISTANCE, DISTANCE + 1))):
            base ^= 1 << bit
        hashes.append(base)
    plain = [n for n, value in enumerate(hashes) if any(distance(value, other) <= DISTANCE for other in hashes[:n])]
    assert near(hashes) == plain
    assert count < 2 or plain
