"""Words of a prompt that the model was never shown."""

import pytest

from configs.demo import get_config
from ernie_vilg_jax.webapp.vocabulary import Vocabulary, vocabulary_of

DEMO = vocabulary_of(get_config())


@pytest.mark.parametrize(
    ("prompt", "unseen"),
    [
        ("a cat", []),
        ("A Slice of Pizza, 3D style", []),
        ("a yellow star above a green triangle", []),
        ("一只熊猫，立体风格", []),
        ("红色的圆形在蓝色的正方形的左边", []),
        ("a cat riding a bicycle in Paris", ["riding", "in", "paris"]),
        ("一只熊猫在月球上", ["在月球上"]),
        ("宇航员", ["宇航员"]),
        ("", []),
    ],
)
def test_words_of_the_demo(prompt: str, unseen: list[str]) -> None:
    assert DEMO is not None
    assert DEMO.unseen(prompt) == unseen


def test_order_and_repetition() -> None:
    known = Vocabulary.of(["一只猫", "猫", "a cat", "红"])
    assert known.unseen("dog 一只狗 a dog, 红猫 bird") == ["dog", "狗", "bird"]
    assert known.unseen("一只红狼") == ["狼"]


def test_other_data_are_not_known() -> None:
    config = get_config()
    config.data.sources = (*config.data.sources, {"name": "folder", "path": "photos"})
    assert vocabulary_of(config) is None
