"""Words that a model never saw."""

import logging
from collections import Counter

import pytest

from ernie_vilg_jax.data.tokenizers import Tokenizer, train_sentencepiece
from ernie_vilg_jax.finetuning.unseen import tell, unseen_words

KNOWN = ["a red cat", "a blue dog", "一只红色的猫", "一只蓝色的狗", "a catalogue of cats and dogs"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_sentencepiece(KNOWN, 400, 24)


def test_known_words_are_not_counted(tokenizer: Tokenizer) -> None:
    assert not unseen_words(tokenizer, KNOWN)
    assert not unseen_words(tokenizer, ["a blue cat", "蓝色的猫"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a Xylophone, blue", {"Xylophone"}),
        ("一只蜻蜓", {"蜻", "蜓"}),
        ("a cat!", set()),
        ("w, wx and red", {"w", "wx"}),
    ],
)
def test_whole_words_with_letters_outside_of_the_vocabulary(text: str, words: set[str], tokenizer: Tokenizer) -> None:
    assert set(unseen_words(tokenizer, [text])) == words


def test_each_word_counts_once_a_text(tokenizer: Tokenizer) -> None:
    assert unseen_words(tokenizer, ["蜓蜓", "蜓", "猫"]) == Counter({"蜓": 2})


def test_with_the_captions_at_hand_tokens_decide(tokenizer: Tokenizer) -> None:
    seen = {number for text in ("a red cat",) for number in tokenizer.pieces(text)[0]}
    assert set(unseen_words(tokenizer, ["a red dog"], seen)) == {"dog"}


def test_they_are_told_with_their_number(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        tell(Counter({"quetzal": 2, "蜓": 1}), ["x"])
        tell(Counter(), ["x", "y"])
    assert "2 words of your captions are new to the model (quetzal, 蜓)" in caplog.messages[0]
    assert caplog.messages[1:] == ["the model has seen all words of the 2 captions"] or len(caplog.messages) == 1
