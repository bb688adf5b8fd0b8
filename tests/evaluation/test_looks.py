"""The look that a prompt names, and the network that tells looks apart."""

import numpy as np
import pytest

from ernie_vilg_jax.evaluation.binding import weights
from ernie_vilg_jax.evaluation.binding.nouns import Noun
from ernie_vilg_jax.evaluation.looks import KEYS, Looks, look_of
from ernie_vilg_jax.evaluation.looks import train as training
from ernie_vilg_jax.preparation.sources.composed.captions import plain_caption
from ernie_vilg_jax.preparation.sources.composed.source import ComposedSource


@pytest.mark.parametrize(
    ("prompt", "look"),
    [
        ("a watercolour of a cat", "watercolour"),
        ("a pixel dragon", "pixel"),
        ("a cat, flat style", "fluent-emoji-flat"),
        ("一只猫，像素风格", "pixel"),
        ("一幅苹果的水彩画", "watercolour"),
        ("a 3D render of a red car", "fluent-emoji-3d"),
        ("a cat", ""),
        ("a pixelated cat", ""),
    ],
)
def test_the_look_of_a_prompt(prompt: str, look: str) -> None:
    assert look_of(prompt) == look


@pytest.mark.parametrize("language", ["zh", "en"])
def test_captions_with_a_style_name_the_look_of_their_scene(language: str) -> None:
    source, styled = ComposedSource(), 0
    for index in range(300):
        plan = source.plan(index)
        plain = plain_caption(plan, language, style=False)
        assert look_of(plain) == "", plain
        caption = plain_caption(plan, language, style=True)
        if caption != plain:
            assert look_of(caption) == plan.look, caption
            styled += 1
    assert styled > 100


@pytest.mark.network
def test_the_committed_network_knows_scenes_that_it_was_not_trained_on() -> None:
    images, labels = training.draw_scenes(seed=77, count=45)
    seen = Looks()(list(images))
    assert np.mean([KEYS.index(look) == label for look, label in zip(seen, labels, strict=True)]) > 0.8


def test_training_tells_patterns_apart(tmp_path) -> None:
    """Upright stripes, flat ones, and both."""
    labels = np.random.default_rng(0).integers(3, size=96)
    stripes = np.broadcast_to(np.arange(64) // 8 % 2 == 0, (64, 64))
    patterns = np.stack([stripes, stripes.T, stripes ^ stripes.T])[labels]
    images = np.repeat(np.where(patterns, 255, 0).astype(np.uint8)[..., None], 3, -1)
    params = training.fit(images, labels, 12, 0)
    weights.write(tmp_path / "looks.safetensors", {"looks": params}, [Noun(key, key) for key in KEYS])
    seen = Looks(tmp_path / "looks.safetensors")(list(images))
    assert np.mean([KEYS.index(look) == label for look, label in zip(seen, labels, strict=True)]) > 0.9
