"""Words that a model never saw."""

import logging
from collections import Counter

import pytest

from ernie_vilg_jax.data.tokenizers import Tokenizer, train_sentencepiece
from ernie_vilg_jax.finetuning.unseen import tell, unseen_words, words_of

KNOWN = ["a red cat", "a blue dog", "一只红色的猫", "一只蓝色的狗", "a catalogue of cats and dogs"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_sentencepiece(KNOWN, 400, 24)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A Happy-snail's 2nd wall.", ["a", "happy", "snail's", "2nd", "wall"]),
        ("蓝色浅顶软呢帽！", list("蓝色浅顶软呢帽")),
        ("一个emoji，红色", ["一", "个", "emoji", "红", "色"]),
        ("été – naïve", ["été", "naïve"]),
        ("!?", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_words_that_are_in_no_caption_of_the_model(tokenizer: Tokenizer) -> None:
    seen = {word for text in KNOWN for word in words_of(text)}
    assert not unseen_words([*KNOWN, "A BLUE cat", "蓝色的猫"], seen, tokenizer)
    # A word that is spelt in letters that the model knows is as new as any.
    assert unseen_words(["a dog, a tail", "one tail", "一只蜻蜓"], seen, tokenizer) == {
        "tail": 2,
        "one": 1,
        "蜻": 1,
        "蜓": 1,
    }


def test_without_its_captions_what_the_vocabulary_cannot_spell(tokenizer: Tokenizer) -> None:
    assert not unseen_words([*KNOWN, "a gate"], None, tokenizer)
    assert unseen_words(["a Xylophone, blue, x", "蜓蜓蜻", "蜓"], None, tokenizer) == {
        "xylophone": 1,
        "x": 1,
        "蜓": 2,
        "蜻": 1,
    }


def test_they_are_told_with_their_number(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tell(Counter({"quetzal": 2, "蜓": 1}), ["x"])
        tell(Counter(), ["x", "y"])
    assert len(caplog.messages) == 1
    assert "2 words of your captions are new to the model (quetzal, 蜓)" in caplog.messages[0]
