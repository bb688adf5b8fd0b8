import numpy as np
import pytest

from ernie_vilg_jax.data.tokenizers import BertTokenizer, Tokenizer, Vocabulary, train_sentencepiece
from ernie_vilg_jax.knowledge.emphasis import emphasise

CAPTION = "灰色的猫和a brown dog"
WORDS = [(0, 2, "a"), (3, 4, "n"), (7, 12, "a"), (13, 16, "n")]
UNUSED = " ".join(f"[unused{n}]" for n in range(1, 7))
VOCABULARY = f"[PAD] {UNUSED} [UNK] [CLS] [SEP] [MASK] 灰 色 的 猫 和 a brown do ##g".replace(" ", "\n")


@pytest.fixture(scope="module", params=["sentencepiece", "bert"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "bert":
        return BertTokenizer(Vocabulary(VOCABULARY), 24)
    return train_sentencepiece([CAPTION, "a dog and a brown cat", "灰色的猫", "棕色的狗"], 320, 24)


def shown(tokenizer: Tokenizer, **changes: object) -> list[tuple[str, float]]:
    """(text of a token, its weight) of the emphasised caption."""
    ids, spans = tokenizer.pieces(CAPTION)
    names = {number: f"[{pos}]" for pos, number in tokenizer.symbol_ids.items()}
    options = {"symbols": tokenizer.symbol_ids, "weight": 0.5, "room": 22, **changes}
    out, weights = emphasise(ids, spans, WORDS, **options)
    pieces = [names.get(number) or tokenizer.decode([number]).strip("# ") for number in out]
    return [(piece, float(weight)) for piece, weight in zip(pieces, weights, strict=True) if piece]


def test_each_key_word_gets_its_symbol_and_its_tokens_the_weight(tokenizer: Tokenizer):
    text = "".join(piece for piece, _ in shown(tokenizer))
    assert text == "[a]灰色的[n]猫和a[a]brown[n]dog"
    heavy = "".join(piece for piece, weight in shown(tokenizer) if weight == 1.5)
    assert heavy == "灰色猫browndog"
    assert {weight for _, weight in shown(tokenizer)} == {1.0, 1.5}


def test_symbols_and_weights_have_their_own_switches(tokenizer: Tokenizer):
    assert "".join(piece for piece, _ in shown(tokenizer, symbols=None)) == "灰色的猫和abrowndog"
    assert {weight for _, weight in shown(tokenizer, weight=0.0)} == {1.0}


def test_symbols_never_push_words_out(tokenizer: Tokenizer):
    ids, _ = tokenizer.pieces(CAPTION)
    pieces = [piece for piece, _ in shown(tokenizer, room=len(ids) + 1)]
    assert "".join(pieces) == "[a]灰色的猫和abrowndog"
    assert [piece for piece, _ in shown(tokenizer, room=len(ids) - 3)] == [p for p in pieces if p != "[a]"]


def test_a_caption_without_key_words_is_unchanged(tokenizer: Tokenizer):
    ids, spans = tokenizer.pieces(CAPTION)
    out, weights = emphasise(ids, spans, [], symbols=tokenizer.symbol_ids, weight=0.5, room=22)
    assert out == ids
    np.testing.assert_array_equal(weights, 1.0)
    assert emphasise([], [], WORDS, symbols=tokenizer.symbol_ids, weight=0.5, room=22)[0] == []


def test_pieces_are_the_tokens_of_encode_and_their_characters(tokenizer: Tokenizer):
    for text in (CAPTION, "  a  brown DOG ", "猫🐼猫", ""):
        ids, spans = tokenizer.pieces(text)
        framed, mask = tokenizer.frame(ids)
        plain, plain_mask, _ = tokenizer.encode(text)
        np.testing.assert_array_equal(framed, plain)
        np.testing.assert_array_equal(mask, plain_mask)
        covered = {place for start, end in spans for place in range(start, end)}
        assert {place for place, letter in enumerate(text) if not letter.isspace()} <= covered
