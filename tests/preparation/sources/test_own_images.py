"""Sources of users' own images: a folder, tars, TFDS."""

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.knowledge.words import language_of
from ernie_vilg_jax.preparation.sources import Source, make_source
from tests.small_data import picture, records_of


def folder(path: Path, **options: Any) -> Source:
    return make_source({"name": "folder", "path": str(path), **options}, size=64)


def ids(source: Source) -> list[str]:
    return [record.id for record in records_of(source)]


def put(path: Path, **files: bytes | str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        file = path / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize(
    ("text", "language"), [("一只猫", "zh"), ("a cat", "en"), ("a 猫", "zh"), ("CAT 123", "en"), ("𠮷", "zh")]
)
def test_languages_are_detected_by_han_characters(text: str, language: str):
    assert language_of(text) == language


def test_captions_from_jsonl(tmp_path: Path):
    rows = [
        {"file": "a.png", "zh": "一只猫", "en": ["a cat", " "], "concept": "cat"},
        {
            "file_name": "sub/b.jpg",
            "caption": ["a dog", "一只狗"],
            "objects": [{"box": [0, 0, 1, 1]}],
        },
    ]
    put(tmp_path, a_png=picture(), sub__b_jpg=picture(kind="JPEG"))
    (tmp_path / "captions.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    source = folder(tmp_path, licence="CC0-1.0")
    a, b = records_of(source)
    assert (a.id, a.concept, a.captions) == ("folder/a.png", "folder/cat", {"zh": ["一只猫"], "en": ["a cat"]})
    assert (b.id, b.captions) == ("folder/sub/b.jpg", {"en": ["a dog"], "zh": ["一只狗"]})
    assert (a.width, a.height, a.licence) == (20, 12, "CC0-1.0")
    assert b.objects == [{"box": [0, 0, 1, 1], "name": {}}] and a.image == (tmp_path / "a.png").read_bytes()
    assert ids(source) == [a.id, b.id]


def test_captions_from_csv_with_a_byte_order_mark(tmp_path: Path):
    put(tmp_path, a_png=picture(), b_webp=picture(kind="WEBP"))
    table = 'file,zh,en\na.png,一只猫,\nb.webp,,"a dog, asleep"\n'
    (tmp_path / "captions.csv").write_text(table, encoding="utf-8-sig")
    assert [record.captions for record in records_of(folder(tmp_path))] == [
        {"zh": ["一只猫"]},
        {"en": ["a dog, asleep"]},
    ]


def test_captions_from_text_files_and_equal_captions_are_one_concept(tmp_path: Path):
    put(tmp_path, a_png=picture(), a_txt="一只猫\na cat\n\n", b_jpeg=picture("blue", kind="JPEG"), b_txt="一只猫")
    a, b = records_of(folder(tmp_path))
    assert a.captions == {"zh": ["一只猫"], "en": ["a cat"]}
    assert a.concept == b.concept == "folder/一只猫"


def test_mismatches_are_listed_and_counted_or_left_out(tmp_path: Path):
    put(tmp_path, a_png=picture(), a_txt="a", b_png=picture(), g_png=b"x", g_txt="g")
    put(tmp_path, c_txt="c", d_txt="d", e_txt="e", f_txt="f")
    message = (
        r"4 captions without an image \(c\.txt, d\.txt, e\.txt, \.\.\.\); 1 images without a caption \(b\.png\): "
        ".*--on_mismatch=skip"
    )
    with pytest.raises(UserError, match=message):
        records_of(folder(tmp_path))
    assert ids(folder(tmp_path, on_mismatch="skip")) == ["folder/a.png"]


def test_an_undecodable_image_is_named(tmp_path: Path):
    put(tmp_path, a_png=picture(size=(200, 200))[:60], a_txt="a")
    with pytest.raises(UserError, match=r"a\.png cannot be decoded as an image"):
        records_of(folder(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("captions.jsonl", '{"file": "a.png", "en": "a"}\n{oops', "captions.jsonl, line 2: not JSON"),
        ("captions.jsonl", '["a.png", "a"]', "line 1: each line must be an object"),
        ("captions.jsonl", '{"en": "a"}', "line 1: no file name"),
        ("captions.jsonl", '{"file": "a.png", "en": 3}', "must be text, not int"),
        ("captions.jsonl", '{"file": "a.png", "en": "a"}\n{"file": "a.png", "en": "b"}', "captions twice"),
        ("captions.csv", "picture,words\na.png,a", "must name the columns"),
        ("captions.csv", b"file,zh\na.png,\xc3\xa8\xb0\xa1", "not UTF-8"),
    ],
)
def test_broken_caption_files_are_named(tmp_path: Path, name: str, content: str | bytes, message: str):
    put(tmp_path, a_png=picture())
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message):
        records_of(folder(tmp_path))


def test_no_folder_no_images_and_wrong_options_are_named(tmp_path: Path):
    with pytest.raises(UserError, match="is not a folder"):
        records_of(folder(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="holds no images"):
        records_of(folder(tmp_path))
    with pytest.raises(UserError, match="on_mismatch='ignore'"):
        folder(tmp_path, on_mismatch="ignore")


def test_the_fingerprint_follows_pixels_captions_and_options(tmp_path: Path):
    put(tmp_path, a_png=picture(), a_txt="a")
    prints = [folder(tmp_path).fingerprint(), folder(tmp_path, short_side=8).fingerprint()]
    put(tmp_path, a_txt="b")
    prints.append(folder(tmp_path).fingerprint())
    put(tmp_path, a_png=picture("blue"))
    prints.append(folder(tmp_path).fingerprint())
    assert len(set(prints)) == 4
    assert folder(tmp_path).fingerprint() == prints[-1]


def test_large_images_are_shrunk_on_request(tmp_path: Path):
    put(tmp_path, a_png=picture(size=(100, 50)), a_txt="a", b_png=picture(size=(10, 10)), b_txt="b")
    a, b = records_of(folder(tmp_path, short_side=20))
    assert (a.width, a.height) == (40, 20) and (b.width, b.height) == (10, 10)


def write_tar(path: Path, files: dict[str, bytes | str], mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def tars(path: Path, **options: Any) -> Source:
    return make_source({"name": "tars", "path": str(path), **options}, size=64)


def test_tars_pair_files_by_name_up_to_the_first_dot(tmp_path: Path):
    write_tar(
        tmp_path / "s-0.tar",
        {
            "./x/1.jpg": picture(kind="JPEG"),
            "./x/1.txt": "a cat\n一只猫",
            "2.zh.txt": "一只狗",
            "2.png": picture(),
            "2.en.txt": "a dog",
        },
    )
    write_tar(
        tmp_path / "s-1.tar",
        {"1.json": json.dumps({"text": "a bird", "concept": "bird"}), "1.webp": picture(kind="WEBP")},
    )
    source = tars(tmp_path / "*.tar")
    records = records_of(source)
    assert [(r.id, r.captions) for r in records] == [
        ("tars/s-0/x/1", {"en": ["a cat"], "zh": ["一只猫"]}),
        ("tars/s-0/2", {"zh": ["一只狗"], "en": ["a dog"]}),
        ("tars/s-1/1", {"en": ["a bird"]}),
    ]
    assert records[2].concept == "tars/bird" and records[1].image == picture()
    assert source.fingerprint() == tars(tmp_path / "*.tar").fingerprint() != tars(tmp_path / "s-0.tar").fingerprint()


def test_mismatches_in_tars_are_listed_or_left_out(tmp_path: Path):
    write_tar(
        tmp_path / "s.tar",
        {"1.png": picture(), "2.txt": "two", "3.png": picture(), "3.txt": "3", "4.png": b"x", "4.txt": "4"},
    )
    with pytest.raises(UserError, match=r"1 captions without an image \(s/2\); 1 images without a caption \(s/1\)"):
        records_of(tars(tmp_path / "s.tar"))
    assert ids(tars(tmp_path / "s.tar", on_mismatch="skip")) == ["tars/s/3"]


def test_bad_tars_are_named(tmp_path: Path):
    with pytest.raises(UserError, match="matches no file"):
        records_of(tars(tmp_path / "*.tar"))
    write_tar(tmp_path / "z.tar", {"1.png": picture(), "1.txt": "1"}, "w:gz")
    with pytest.raises(UserError, match="not a whole, uncompressed tar"):
        records_of(tars(tmp_path / "z.tar"))
    write_tar(tmp_path / "j.tar", {"1.png": picture(), "1.json": "{"})
    with pytest.raises(UserError, match=r"1\.json in .*j\.tar: not JSON that can be used"):
        records_of(tars(tmp_path / "j.tar"))
    write_tar(tmp_path / "u.tar", {"1.png": b"x", "1.txt": "1"})
    with pytest.raises(UserError, match=r"1\.png in .*u\.tar cannot be decoded"):
        records_of(tars(tmp_path / "u.tar"))


def tfds_source(dataset: Path | str, **options: Any) -> Source:
    return make_source({"name": "tfds", "dataset": str(dataset), **options}, size=64)


def test_tfds_is_read_without_tensorflow(dataset: Path):
    records = records_of(tfds_source(dataset))
    assert sorted((tuple(r.captions), r.captions[next(iter(r.captions))]) for r in records) == [
        (("en",), ["a red one"]),
        (("zh",), ["绿色"]),
        (("zh",), ["蓝色的"]),
    ]
    assert {r.image for r in records} == {picture(colour) for colour in ("red", "blue", "green")}
    assert "tensorflow" not in sys.modules


def test_tfds_options(dataset: Path):
    source = tfds_source(dataset, text=("caption", "more"), concept="label", split="train[:2]")
    records = records_of(source)
    assert len(records) == 2
    assert all(record.captions["en"][-1].startswith("more ") for record in records)
    assert {record.concept for record in records} <= {"tfds/0", "tfds/1"}
    assert source.fingerprint() != tfds_source(dataset).fingerprint()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "val"}, "split 'val' of"),
        ({"image": "picture"}, "no feature 'picture'"),
        ({"text": ("words",)}, "lacks the text feature words: set text= to some of"),
    ],
)
def test_tfds_mistakes_are_one_sentence(dataset: Path, options: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        records_of(tfds_source(dataset, **options))


def test_invalid_tfds_text_is_named(dataset: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ernie_vilg_jax.preparation.sources.tfds._nested", lambda example, name: b"a \xff cat")
    with pytest.raises(UserError, match=r"example 0 of .*toy: its text cannot be used \('utf-8' codec can't decode"):
        records_of(tfds_source(dataset))


def test_an_unknown_tfds_name_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="dataset='no_such_dataset_here' cannot be opened"):
        records_of(tfds_source("no_such_dataset_here"))
    with pytest.raises(UserError, match="holds 0 dataset_info"):
        records_of(tfds_source(tmp_path))
