"""The accuracy of the taggers on held-out captions. The minima are the project's goals."""

import pytest

from ernie_vilg_jax.annotation.taggers import make_tagger
from ernie_vilg_jax.knowledge.words import Word
from tests.annotation.taggers.gold_score import intervals, parts_of, read_gold, score


class Scripted:
    """Finds the given words."""

    def __init__(self, words: list[Word]) -> None:
        self._words = words

    def words(self, caption: str) -> list[Word]:
        return self._words


def test_the_score_counts_characters_and_whole_words():
    gold = [("红帽子", [Word(0, 1, "a"), Word(1, 3, "n")])]
    report = score(Scripted([Word(0, 3, "n")]), gold)
    assert report.characters["n"] == (2, 1, 0)
    assert report.characters["a"] == (0, 0, 1)
    assert report.spans["n"] == (0, 1, 1)
    assert report.exact == 0.0
    perfect = score(Scripted(gold[0][1]), gold)
    assert perfect.characters["n"].f1 == perfect.spans["a"].f1 == perfect.exact == 1.0


def test_an_interval_holds_the_score_and_is_a_point_where_all_captions_agree():
    word = Word(0, 1, "n")
    half = [("红", [word]), ("绿", [Word(0, 1, "a")])] * 20
    bounds = intervals(Scripted([word]), half)
    low, high = bounds["n"]
    assert low < score(Scripted([word]), half).characters["n"].f1 == 2 / 3 < high
    assert bounds["a"] == (0.0, 0.0)
    assert intervals(Scripted([word]), [("红", [word])] * 5)["n"] == (1.0, 1.0)
    assert bounds == intervals(Scripted([word]), half)


def test_a_space_of_a_title_is_written_as_a_sign():
    (caption, words), *_ = [pair for pair in read_gold("zh", "shop_dev") if " " in pair[0]]
    assert caption == "不锈钢保温杯大容量便携水杯 500ml 白色"
    assert caption[words[-1].start :] == "白色"


@pytest.mark.parametrize(
    ("language", "part"), [(language, part) for language in ("zh", "en") for part in parts_of(language)]
)
def test_the_labels_cut_words_out_of_the_captions(language: str, part: str):
    for caption, words in read_gold(language, part):
        assert words
        for word in words:
            assert caption[word.start : word.end].strip() == caption[word.start : word.end]


@pytest.mark.parametrize(
    ("language", "part"), [("zh", "test"), ("en", "test"), ("zh", "shop_test"), ("zh", "alt_test")]
)
def test_held_out_captions_score_above_the_floors(language: str, part: str):
    report = score(make_tagger(language), read_gold(language, part))
    assert report.characters["n"].f1 >= 0.90
    assert report.characters["a"].f1 >= 0.85
