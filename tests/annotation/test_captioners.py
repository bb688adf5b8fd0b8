"""Appended names, captioners, translators."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ernie_vilg_jax.annotation.captioners import make_captioner
from ernie_vilg_jax.annotation.translators import make_translator
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.knowledge.objects import append_objects
from ernie_vilg_jax.knowledge.words import Word
from tests.annotation import model_folders
from tests.annotation.model_folders import pictures

WORDS = ["a", "cat", "dog", "on", "the", "table", "red", "blue", "two", "bowls"]
LINES = ["a cat on a table", "two red dogs", "一只猫在桌子上", "红色的狗", "the quick brown fox jumps over a lazy dog"]


@pytest.mark.parametrize(
    ("caption", "names", "language", "expected"),
    [
        ("一张桌子", ["碗"], "zh", "一张桌子,碗"),
        ("一张桌子。", ["碗", "猫"], "zh", "一张桌子,碗,猫"),
        ("a table", ["bowl"], "en", "a table, bowl"),
        ("A table. ", ["bowl", "traffic light"], "en", "A table, bowl, traffic light"),
        ("a table", ["bowl", " bowl ", "", "bowl"], "en", "a table, bowl"),
        ("", ["碗", "猫"], "zh", "碗,猫"),
        ("...", ["bowl"], "en", "bowl"),
        ("a table. ", [], "en", "a table. "),
        ("a table. ", [" "], "en", "a table. "),
    ],
)
def test_names_are_appended(caption: str, names: list[str], language: str, expected: str):
    text, words = append_objects(caption, [], names, language)
    assert text == expected
    appended = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    assert [text[start:end] for start, end, _ in words] == appended
    assert {pos for _, _, pos in words} <= {"n"}


def test_words_of_the_caption_stay_before_the_appended_ones():
    words = [Word(0, 2, "a"), Word(3, 5, "n")]
    text, found = append_objects("红色的桌子。", words, ["碗"], "zh")
    assert [(text[w.start : w.end], w.pos) for w in found] == [("红色", "a"), ("桌子", "n"), ("碗", "n")]
    assert words == [Word(0, 2, "a"), Word(3, 5, "n")]
    assert append_objects("一只猫", [[2, 3, "n"]], ["碗"], "zh")[1] == [Word(2, 3, "n"), Word(4, 5, "n")]  # type: ignore


def blanks(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (4, 4))] * count


def test_captions_from_a_file(tmp_path: Path):
    rows = [{"id": "a", "zh": " 一只猫 "}, {"id": "b", "zh": "狗", "en": "a dog", "by": "me"}, {"id": "c", "en": "x"}]
    file = tmp_path / "captions.jsonl"
    file.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    captioner = make_captioner("file", path=str(file))
    found = captioner.captions(blanks(3), ["b", "none", "a"])
    assert found == [{"zh": "狗", "en": "a dog"}, {}, {"zh": "一只猫"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "a"', "line 1 .* is not JSON"),
        ('{"id": "a", "zh": "x"}\n{"zh": "x"}', "line 2 .* has no id"),
        ("3", "has no id"),
        ('{"id": 3, "zh": "x"}', "has no id"),
        ('{"id": "a"}', "has no caption"),
        ('{"id": "a", "en": ["x"]}', "has no caption, or one that is not text"),
        ('{"id": "a", "en": " "}', "has no caption"),
        ('{"id": "a", "en": "x"}\n{"id": "a", "en": "y"}', "line 2 .* repeats the id 'a'"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_broken_caption_files(tmp_path: Path, content: str | bytes, message: str):
    file = tmp_path / "captions.jsonl"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message):
        make_captioner("file", path=str(file))


def test_a_missing_caption_file(tmp_path: Path):
    with pytest.raises(UserError, match="cannot be read"):
        make_captioner("file", path=str(tmp_path / "none.jsonl"))


def test_unknown_captioners_and_translators():
    with pytest.raises(UserError, match="captioner 'ofa' must be one of transformers, file"):
        make_captioner("ofa")
    with pytest.raises(UserError, match="translator 'bing' must be one of transformers"):
        make_translator("bing")
    with pytest.raises(UserError, match="captioner 'file' has no option 'model'"):
        make_captioner("file", model="x")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("captioners")
    return {
        "vision_encoder_decoder": model_folders.vision_encoder_decoder(folder / "ved", WORDS),
        "blip": model_folders.blip(folder / "blip", WORDS),
        "git": model_folders.git(folder / "git", WORDS),
        "marian": model_folders.marian(folder / "marian", LINES * 3),
    }


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", ["vision_encoder_decoder", "blip", "git"])
def test_captions_by_a_model(models: dict[str, Path], name: str, beams: int):
    images = pictures([(40, 30), (30, 40), (64, 64), (20, 50), (33, 33)])
    images[2] = images[0]
    ids = list("abcde")

    def run(batch_size: int, chosen: list[int]) -> list[dict[str, str]]:
        captioner = make_captioner(
            "transformers", model=str(models[name]), max_tokens=6, beams=beams, batch_size=batch_size
        )
        return captioner.captions([images[k] for k in chosen], [ids[k] for k in chosen])

    found = run(2, [0, 1, 2, 3, 4])
    assert len(found) == 5 and found[0] == found[2] and len({str(caption) for caption in found}) > 1
    for caption in found:
        assert set(caption) <= {"en"} and set(caption.get("en", "").split()) <= set(WORDS)
    assert run(2, [0, 1, 2, 3, 4]) == found
    assert run(5, [4, 3, 2, 1, 0]) == found[::-1]
    assert run(1, [3]) == [found[3]]


def test_the_language_of_a_captioner(models: dict[str, Path]):
    captioner = make_captioner("transformers", model=str(models["blip"]), max_tokens=3, language="zh")
    assert all(set(caption) <= {"zh"} for caption in captioner.captions(pictures([(9, 9)]), ["a"]))
    assert captioner.captions([], []) == []


@pytest.mark.parametrize("beams", [1, 3])
def test_translations_by_a_model(models: dict[str, Path], beams: int):
    texts = ["two red dogs on a table", "a cat", "", "  ", "a fox", "a cat"]

    def run(batch_size: int, texts: list[str], **options: Any) -> list[str]:
        translator = make_translator(
            "transformers", model=str(models["marian"]), max_tokens=8, beams=beams, batch_size=batch_size, **options
        )
        return translator.translate(texts)

    found = run(2, texts)
    assert found[2:4] == ["", "  "] and found[1] == found[5] and len(set(found)) > 3
    assert run(2, texts) == found
    assert run(3, texts[::-1]) == found[::-1]
    assert [run(1, [text])[0] for text in texts[:2]] == found[:2]
    assert run(2, texts, prefix=">>cmn_Hans<< ") != found
    assert len(run(2, ["a cat " * 200])) == 1
    assert run(2, []) == []


def test_wrong_options(models: dict[str, Path], tmp_path: Path):
    blip, marian = str(models["blip"]), str(models["marian"])
    for make, options, message in (
        (make_captioner, {"model": blip, "language": "de"}, "language='de' must be 'zh' or 'en'"),
        (make_captioner, {"model": blip, "beams": 0}, "beams=0 must be a whole number"),
        (make_captioner, {"model": blip, "batch_size": 1.5}, "batch_size=1.5 must be a whole number"),
        (make_captioner, {"model": marian}, "is a marian model, not a captioner: give one of the types vision-"),
        (make_captioner, {"model": str(tmp_path)}, "captioner model .* has no config.json"),
        (make_captioner, {"model": "none/"}, "is not a folder"),
        (make_translator, {"model": blip}, "is a blip model, not a translator: give a sequence-to-sequence"),
        (make_translator, {"model": marian, "max_tokens": 0}, "max_tokens=0 must be a whole number"),
        (make_translator, {"model": marian, "target": "zh"}, "target='zh' is no language code of"),
        (make_translator, {"model": marian, "source": "en"}, "source='en' is no language code of"),
    ):
        with pytest.raises(UserError, match=message):
            make("transformers", **options)


def test_a_target_language_is_forced(models: dict[str, Path]):
    translator = make_translator("transformers", model=str(models["marian"]), target=">>cmn_Hans<<", max_tokens=4)
    assert len(translator.translate(["a cat"])) == 1
