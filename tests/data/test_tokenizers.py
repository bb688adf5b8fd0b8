import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.data import tokenizers
from ernie_vilg_jax.data.tokenizers import BertTokenizer, SentencePieceTokenizer, Tokenizer, Vocabulary, load_tokenizer
from ernie_vilg_jax.errors import UserError

CAPTIONS = [
    f"{zh}{noun}"
    for zh in ("一只红色的", "一只蓝色的", "两只", "一幅")
    for noun in ("猫", "狗", "熊猫", "长颈鹿", "大象")
] + [
    f"{en} {noun}"
    for en in ("a red", "a picture of a blue", "two", "the small")
    for noun in ("cat", "dog", "panda", "giraffe", "elephant")
]
VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] 一 只 红 色 的 猫 a red cat ##s ， ,".replace(" ", "\n")


@pytest.fixture(scope="module")
def sentencepiece() -> SentencePieceTokenizer:
    return tokenizers.train_sentencepiece(CAPTIONS, 420, 16)


@pytest.fixture(scope="module")
def bert() -> BertTokenizer:
    return BertTokenizer(Vocabulary(VOCABULARY), 10)


@pytest.fixture(params=["sentencepiece", "bert"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("text", ["一只红色的猫", "a red cat"])
def test_known_text_comes_back(tokenizer: Tokenizer, text: str):
    ids, mask, cut = tokenizer.encode(text)
    assert ids.shape == mask.shape == (tokenizer.max_length,)
    assert ids.dtype == np.int32 and mask.dtype == bool
    assert (ids[~mask] == tokenizer.pad_id).all() and (ids[mask] != tokenizer.pad_id).all()
    assert ids.max() < tokenizer.vocab_size
    assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")
    assert cut == ""


def test_the_empty_caption_is_special_tokens_alone(tokenizer: Tokenizer):
    ids, mask, cut = tokenizer.encode("")
    assert mask.sum() == 2 and cut == "" and tokenizer.decode(ids) == ""


@pytest.mark.parametrize("text", ["一只红色的猫" * 10, "a red cat " * 10])
def test_long_text_is_cut_and_returned(tokenizer: Tokenizer, text: str):
    ids, mask, cut = tokenizer.encode(text)
    assert mask.all()
    assert cut and text.strip().endswith(cut)
    kept = tokenizer.decode(ids).replace(" ", "")
    assert kept + cut.replace(" ", "") == text.replace(" ", "")
    assert ids[-1] == tokenizer.encode("")[0][1]  # cut text also has the end token


def test_the_longest_text_that_fits_is_not_cut(bert: BertTokenizer):
    assert bert.encode("红" * 8)[2] == ""
    assert bert.encode("红" * 8 + "猫")[2] == "猫"


def test_saving_and_loading_changes_nothing(tokenizer: Tokenizer, tmp_path: Path):
    tokenizer.save(tmp_path)
    for other in (load_tokenizer(tmp_path), pickle.loads(pickle.dumps(tokenizer))):
        assert (other.vocab_size, other.max_length, other.pad_id) == (
            tokenizer.vocab_size,
            tokenizer.max_length,
            tokenizer.pad_id,
        )
        for text in ("一只红色的猫", "a red cat", "🐼 und Σ"):
            np.testing.assert_array_equal(other.encode(text)[0], tokenizer.encode(text)[0])


@pytest.mark.parametrize("text", ["龘", "🐼", "Ünïcödé", "смотри", "ひらがな"])
def test_characters_it_never_saw_are_spelt_in_bytes(sentencepiece: SentencePieceTokenizer, text: str):
    import unicodedata

    assert sentencepiece.decode(sentencepiece.encode(text)[0]) == unicodedata.normalize("NFKC", text).casefold()


def test_cutting_inside_a_byte_spelling_loses_no_text(sentencepiece: SentencePieceTokenizer):
    text = "一只" + "龘" * 20
    ids, _, cut = sentencepiece.encode(text)
    kept = sentencepiece.decode(ids).rstrip("\ufffd")
    assert text == kept + cut


def test_case_and_width_do_not_matter(sentencepiece: SentencePieceTokenizer):
    np.testing.assert_array_equal(sentencepiece.encode("A Red CAT")[0], sentencepiece.encode("ａ red cat")[0])


def test_parts_of_speech_have_pieces_of_their_own(sentencepiece: SentencePieceTokenizer):
    assert len(set(sentencepiece.symbol_ids.values())) == len(tokenizers.PART_OF_SPEECH_SYMBOLS)


TYPED = ["[n]", "a [n]红[a]b", "[PAD]", "[CLS] red [SEP]", "[unused1]", "[MASK]猫", "<s>", "</s>", "<unk>", "<0x41>"]


@pytest.mark.parametrize("text", TYPED)
def test_special_tokens_in_the_text_are_text(text: str):
    symbols = [*tokenizers.PART_OF_SPEECH_SYMBOLS, "[unused1]"]
    letters = sorted({letter for letter in "".join(TYPED).lower() if letter.strip()})
    words = [*VOCABULARY.split("\n"), *symbols, *letters, *(f"##{letter}" for letter in letters)]
    bert = BertTokenizer(Vocabulary("\n".join(dict.fromkeys(words))), 64)
    sentencepiece = tokenizers.train_sentencepiece([*CAPTIONS, "b"], 420, 64)
    for tokenizer, special in ((bert, [0, 1, 2, 3, 4]), (sentencepiece, [0, 1, 2, 3])):
        ids, spans = tokenizer.pieces(text)
        assert not {*special, *tokenizer.symbol_ids.values()} & set(ids)
        assert tokenizer.encode(text)[0][1 : 1 + len(ids)].tolist() == ids
        assert tokenizer.decode(ids).replace(" ", "").lower() == text.replace(" ", "").lower()
        seen = [text[start:end].strip() for start, end in dict.fromkeys(spans)]
        assert "".join(seen) == text.replace(" ", "")


def test_training_depends_on_the_set_of_captions_alone():
    one = tokenizers.train_sentencepiece(CAPTIONS, 420, 16)
    other = tokenizers.train_sentencepiece(CAPTIONS[::-1] + CAPTIONS[:5], 420, 16)
    assert one.__reduce__() == other.__reduce__()


def test_a_vocabulary_the_captions_cannot_fill_shrinks():
    small = tokenizers.train_sentencepiece(["一只猫", "a cat"], 30_000, 16)
    assert 256 < small.vocab_size < 400
    assert small.decode(small.encode("一只猫")[0]) == "一只猫"


def test_each_han_character_is_one_piece_wherever_it_stands(sentencepiece: SentencePieceTokenizer):
    def pieces(text: str) -> list[int]:
        ids, mask, _ = sentencepiece.encode(text)
        return ids[mask][1:-1].tolist()

    begin = pieces("红")
    assert pieces("红色的猫") == begin + [pieces(c)[-1] for c in "色的猫"]
    assert pieces("猫红") == [*pieces("猫"), begin[-1]]  # the same id at the start and inside
    assert pieces("一只蓝色的熊猫")[-2:] == [pieces(c)[-1] for c in "熊猫"]


def test_frequent_english_words_are_whole():
    names = ("panda", "cat", "dog", "car", "star", "ring")
    tokenizer = tokenizers.train_sentencepiece([f"{name}, Google style" for name in names], 320, 16)
    assert tokenizer.encode("style")[1].sum() == 3


def test_special_ids(sentencepiece: SentencePieceTokenizer):
    ids, mask, _ = sentencepiece.encode("猫")
    assert sentencepiece.pad_id == 0 and ids[0] == 2 and ids[mask.sum() - 1] == 3


def test_bert_is_prepared_from_a_vocabulary_file_or_its_folder(tmp_path: Path):
    (tmp_path / "vocab.txt").write_text(VOCABULARY, encoding="utf-8")
    for path in (tmp_path, tmp_path / "vocab.txt"):
        settings = ConfigDict({"kind": "bert", "path": str(path), "max_length": 10, "vocab_size": 17})
        tokenizer = tokenizers.given_tokenizer(settings)
        assert tokenizer is not None and tokenizer.vocab_size == 17


def test_a_vocabulary_of_another_size_than_the_config_is_refused(tmp_path: Path):
    (tmp_path / "vocab.txt").write_text(VOCABULARY, encoding="utf-8")
    settings = ConfigDict({"kind": "bert", "path": str(tmp_path), "max_length": 10, "vocab_size": 21128})
    with pytest.raises(UserError, match=r"17 tokens.*vocab_size=21128"):
        tokenizers.given_tokenizer(settings)


def test_mistakes_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = ConfigDict({"kind": "bert", "path": "", "max_length": 10, "vocab_size": 17})
    with pytest.raises(UserError, match=r"tokenizer\.path is empty"):
        tokenizers.given_tokenizer(settings)
    settings.kind = "words"
    with pytest.raises(UserError, match="kind='words'"):
        tokenizers.given_tokenizer(settings)
    with pytest.raises(UserError, match="no captions"):
        tokenizers.train_sentencepiece(["", "  "], 100, 16)
    with pytest.raises(UserError, match="max_length=2"):
        tokenizers.train_sentencepiece(CAPTIONS, 420, 2)
    with pytest.raises(UserError, match="no tokenizer in"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_too_small_for_the_characters_is_refused():
    with pytest.raises(UserError, match=r"vocab_size=280 is too small for 36 .* at least 303"):
        tokenizers.train_sentencepiece(CAPTIONS, 280, 16)


def a_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


DAMAGES = {
    "model, garbage": (
        "sentencepiece.model",
        b"\x00damaged",
        r"is damaged \(INTERNAL.*\): run the command that made it again",
    ),
    "model, empty": ("sentencepiece.model", b"", r"is damaged \(sentencepiece.model is empty\)"),
    "model, missing": ("sentencepiece.model", Path.unlink, r"no tokenizer in .* \(sentencepiece.model is missing\)"),
    "model, a folder": ("sentencepiece.model", a_folder, "sentencepiece.model: is a directory; a file belongs here"),
    "model, cut": ("sentencepiece.model", lambda path: os.truncate(path, 1000), "is damaged"),
    "settings, garbage": ("tokenizer.json", b"\x00damaged", r"is damaged"),
    "settings, empty": ("tokenizer.json", b"", r"is damaged"),
    "settings, no object": ("tokenizer.json", b"[]", r"is damaged"),
    "settings, a folder": ("tokenizer.json", a_folder, "tokenizer.json: is a directory; a file belongs here"),
    "settings, missing": ("tokenizer.json", Path.unlink, r"no tokenizer in .* \(tokenizer.json is missing\)"),
    "unknown kind": ("tokenizer.json", b'{"kind": "words", "max_length": 9}', "kind 'words' and max_length 9 are not"),
    "long kind": ("tokenizer.json", b'{"kind": "%s", "max_length": 9}' % (b"x" * 3000), "kind 'xxx"),
    "no kind": ("tokenizer.json", b'{"max_length": 9}', "is damaged .'kind'"),
    "no length": ("tokenizer.json", b'{"kind": "bert"}', "is damaged .'max_length'"),
    "length of text": ("tokenizer.json", b'{"kind": "bert", "max_length": "9"}', "max_length '9' are not those"),
    "too short": ("tokenizer.json", b'{"kind": "sentencepiece", "max_length": 1}', "max_length=1 must be at least 3"),
    "no vocabulary": ("tokenizer.json", b'{"kind": "bert", "max_length": 9}', r"\(vocab.txt is missing\)"),
}


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_tokenizer_is_one_sentence(
    sentencepiece: SentencePieceTokenizer, tmp_path: Path, name: str, damage: Any, message: str
):
    sentencepiece.save(tmp_path)
    damage(tmp_path / name) if callable(damage) else (tmp_path / name).write_bytes(damage)
    with pytest.raises(UserError, match=message) as refused:
        load_tokenizer(tmp_path)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("vocabulary", [b"", b"\xff\xfe", "[PAD]\n猫".encode()])
def test_a_damaged_vocabulary_is_one_sentence(bert: BertTokenizer, tmp_path: Path, vocabulary: bytes):
    bert.save(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(vocabulary)
    with pytest.raises(UserError, match=r"damaged|lacks"):
        load_tokenizer(tmp_path)


def test_a_model_without_padding_is_refused(tmp_path: Path):
    import io

    import sentencepiece as library

    model = io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(CAPTIONS), model_writer=model, vocab_size=60, pad_id=-1, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    (tmp_path / "tokenizer.json").write_text('{"kind": "sentencepiece", "max_length": 9}')
    (tmp_path / "sentencepiece.model").write_bytes(model.getvalue())
    with pytest.raises(UserError, match="lacks a pad, begin or end token"):
        load_tokenizer(tmp_path)


def test_another_tokenizer_than_the_manifest_states_is_refused(ready: ConfigDict, prepared: Path, tmp_path: Path):
    ready.data.path = str(shutil.copytree(prepared, tmp_path / "copy"))
    (tmp_path / "copy/tokenizer/notes.txt").write_text("not a part of it")
    load_tokenizer(ready)
    model = tokenizers.train_sentencepiece(CAPTIONS, 420, 24)
    model.save(tmp_path / "copy/tokenizer")
    with pytest.raises(
        UserError, match=r"is damaged \(it is not the one that .*manifest.json states\): run the command"
    ):
        load_tokenizer(ready)
    assert load_tokenizer(tmp_path / "copy/tokenizer").vocab_size == model.vocab_size


def test_a_folder_that_was_not_prepared_lacks_more_than_a_tokenizer(ready: ConfigDict, tmp_path: Path):
    for path, message in ((tmp_path, "holds no manifest.json"), (tmp_path / "nowhere", "is not a directory: run")):
        ready.data.path = str(path)
        with pytest.raises(UserError, match=message):
            load_tokenizer(ready)


def test_the_config_decides_the_length_of_a_prepared_tokenizer(ready: ConfigDict):
    ready.tokenizer.max_length = 9
    assert load_tokenizer(ready).encode("a red star")[0].shape == (9,)


def test_tokenizers_do_not_import_jax():
    import subprocess
    import sys

    code = (
        "import sys, ernie_vilg_jax.data.tokenizers as t\n"
        "t.train_sentencepiece(['a'], 300, 8)\n"
        "print('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
