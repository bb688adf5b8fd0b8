"""Attention maps of a word."""

import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.pipeline import AttentionMaps, Pipeline
from ernie_vilg_jax.pipeline.attention_maps import tokens_of

PROMPT = "blue square红色的圆形"


@pytest.fixture(scope="module")
def whole(pipe: Pipeline) -> AttentionMaps:
    return pipe.attention_maps(PROMPT, "blue", steps=4, seed=3)


def test_maps_of_each_step_with_the_same_image(pipe: Pipeline, whole: AttentionMaps) -> None:
    np.testing.assert_array_equal(np.asarray(whole.image), np.asarray(pipe(PROMPT, steps=4, seed=3)[0]))
    assert whole.maps.shape == (4, 4, 4)
    assert whole.timesteps.tolist() == [999, 749, 499, 249]
    assert whole.stages.tolist() == [1, 1, 0, 0]
    assert whole.maps.min() > 0 and whole.maps.max() < 1
    assert whole.maps.std(axis=(1, 2)).min() > 0, "positions differ"
    np.testing.assert_allclose(whole.mean(), whole.maps.mean(0), rtol=1e-6)
    np.testing.assert_allclose(whole.mean(stage=1), whole.maps[:2].mean(0), rtol=1e-6)
    with pytest.raises(ValueError, match="no step was in stage 2; there were steps in"):
        whole.mean(stage=2)


def test_words_share_the_attention_that_the_text_gets(pipe: Pipeline, whole: AttentionMaps) -> None:
    """The parts of the prompt add up to all of it, and that is less than 1: the rest goes to the image itself."""
    params = [pipe.attention_maps(PROMPT, word, steps=4, seed=3) for word in ("square", "红色的圆形")]
    together = pipe.attention_maps(PROMPT, PROMPT, steps=4, seed=3)
    assert whole.tokens + params[0].tokens + params[1].tokens == together.tokens
    np.testing.assert_allclose(whole.maps + params[0].maps + params[1].maps, together.maps, rtol=1e-4)
    assert together.maps.max() < 1


def test_streamed_maps_equal_resident_maps(streamed: Pipeline, whole: AttentionMaps) -> None:
    seen: list[int] = []
    other = streamed.attention_maps(
        PROMPT, "BLUE", steps=4, seed=3, on_step=lambda progress: seen.append(progress.step)
    )
    np.testing.assert_allclose(other.maps, whole.maps, rtol=1e-4)
    assert seen == [1, 2, 3, 4]


def test_overlay_is_the_image_where_attention_is_highest(whole: AttentionMaps) -> None:
    maps = np.zeros((1, 2, 2), np.float32)
    maps[0, 0, 0] = 0.5
    picture = Image.new("RGB", (16, 16), (200, 100, 50))
    shown = np.asarray(AttentionMaps("x", (1,), picture, np.zeros(1), np.zeros(1), maps).overlay())
    np.testing.assert_array_equal(shown[0, 0], (200, 100, 50))
    assert shown[15, 15].max() < 50
    assert whole.overlay(stage=0).size == (16, 16)


def test_tokens_of_a_word(pipe: Pipeline) -> None:
    tokenizer = pipe.tokenizer
    ids, _ = tokenizer.pieces(PROMPT)
    for word in ("blue", "红色", "圆形", "square"):
        places = tokens_of(tokenizer, PROMPT, word)
        assert word in tokenizer.decode([ids[place - 1] for place in places])
    assert len(tokens_of(tokenizer, "红色红色", "红色")) == 2 * len(tokens_of(tokenizer, "红色", "红色"))
    assert tokens_of(tokenizer, "a square", "a") == tokens_of(tokenizer, "a red", "a"), "not the one in square"
    assert tokens_of(tokenizer, "squares", "square") == tokens_of(tokenizer, "square", "square")


@pytest.mark.parametrize(
    ("prompt", "word", "message"),
    [
        ("a blue square", "green", "word='green' is not in the prompt 'a blue square'"),
        ("a blue square", " ", "word=' ' must be a word of the prompt"),
        ("红色的圆形" * 20 + "尾巴", "尾巴", "the model does not see '尾巴': the prompt is longer than 16 tokens"),
        (["a", "b"], "a", "attention maps are of one prompt, a string, but it is a list"),
    ],
)
def test_words_that_will_not_do(pipe: Pipeline, prompt: str, word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pipe.attention_maps(prompt, word)
    with pytest.raises(UserError, match="num_images=2: attention maps are made of one picture at a time"):
        pipe.attention_maps("a blue square", "blue", num_images=2)
