"""Folders of images: names in any spelling, unrelated files, conventions of other trainers."""

import json
import os
import unicodedata
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.prepare import prepare
from tests.preparation.sources.test_own_images import folder, ids, put
from tests.small_data import make_config, picture, records_of

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café ü") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        (f"{DECOMPOSED}.png", f"{COMPOSED}.png"),
        (f"{COMPOSED}.png", f"{DECOMPOSED}.png"),
        ("a.png", "./a.png"),
        ("a/b.png", "a\\b.png"),
        ("a/b.png", ".\\a\\b.png"),
        ("a/b.png", "a//b.png"),
        ("a/b.png", "a/x/../b.png"),
        ("a\\b.png", "a\\b.png"),
        ("[1] a.png", "[1] a.png"),
        ("a.png", "{folder}/a.png"),
    ],
)
@pytest.mark.parametrize("table", ["captions.jsonl", "captions.csv"])
def test_names_in_tables_however_they_are_spelt(stored: str, named: str, table: str, tmp_path: Path):
    file = tmp_path / stored
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(picture())
    named = named.replace("{folder}", str(tmp_path))
    text = json.dumps({"file": named, "en": "a"}) if table.endswith("jsonl") else f"file,en\n{named},a\n"
    (tmp_path / table).write_text(text, encoding="utf-8")
    (record,) = records_of(folder(tmp_path))
    assert record.id == f"folder/{stored}" and record.captions == {"en": ["a"]}


@pytest.mark.parametrize(("image", "text"), [(DECOMPOSED, COMPOSED), (COMPOSED, DECOMPOSED), ("a.b", "a.b")])
@pytest.mark.parametrize("suffix", [".txt", ".caption", ".TXT"])
def test_captions_beside_images_however_they_are_spelt(image: str, text: str, suffix: str, tmp_path: Path):
    (tmp_path / f"{image}.png").write_bytes(picture())
    (tmp_path / f"{text}{suffix}").write_text("a cat")
    (record,) = records_of(folder(tmp_path))
    assert record.captions == {"en": ["a cat"]}


def test_a_name_that_may_be_two_files_is_an_error(tmp_path: Path):
    put(tmp_path, **{f"{COMPOSED}_png": picture(), f"{DECOMPOSED}_png": picture()})
    table = tmp_path / "captions.jsonl"
    table.write_text("\n".join(json.dumps({"file": f"{name}.png", "en": "a"}) for name in (COMPOSED, DECOMPOSED)))
    assert len(ids(folder(tmp_path))) == 2
    table.write_text(json.dumps({"file": f"./{COMPOSED}.png", "en": "a"}))
    with pytest.raises(UserError, match=r"captions\.jsonl, line 1: .* may be .* or .*: write its name exactly"):
        records_of(folder(tmp_path))
    table.write_text('{"file": "./x.png", "en": "a"}\n{"file": "x.png", "en": "b"}')
    put(tmp_path, x_png=picture())
    with pytest.raises(UserError, match=r"line 2: 'x\.png' has captions twice"):
        records_of(folder(tmp_path))


def test_a_name_that_is_not_utf8_is_named(tmp_path: Path):
    put(tmp_path, a_png=picture(), a_txt="a")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xc3\xa8\xb0\xa1.png"))).write_bytes(picture())
    with pytest.raises(UserError, match=r"the name .*udcb0.* is not UTF-8; rename the file"):
        records_of(folder(tmp_path))


def test_files_that_macos_hides_are_left_out(tmp_path: Path):
    put(tmp_path, a_png=picture(), a_txt="a")
    for name in ("._a.png", "._a.txt", "._captions.jsonl"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert ids(folder(tmp_path)) == ["folder/a.png"]


def test_output_of_prepare_in_the_folder_is_not_read(tmp_path: Path):
    put(tmp_path, a_png=picture(), a_txt="a", b_png=picture(), b_txt="b")
    config = make_config(sources=(ConfigDict({"name": "folder", "path": str(tmp_path)}),))
    manifest = prepare(config, tmp_path / "out")
    assert (tmp_path / "out/preview.png").is_file() and ids(folder(tmp_path)) == ["folder/a.png", "folder/b.png"]
    assert prepare(config, tmp_path / "out") == manifest


@pytest.mark.parametrize("name", ["b.svg", "b.HEIC", "b.gif", "b.tiff"])
@pytest.mark.parametrize("beside", [True, False])
def test_unsupported_image_formats_are_named(name: str, beside: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    put(tmp_path, a_png=picture(), a_txt="a")
    (tmp_path / name).write_bytes(b"<svg/>")
    assert ids(folder(tmp_path)) == ["folder/a.png"]  # without a caption it is not used
    assert f"1 images that are not PNG, JPEG or WebP and have to be converted, such as {name}" in caplog.text
    if beside:
        put(tmp_path, b_txt="b")
    else:
        rows = [{"file": file, "en": "x"} for file in ("a.png", name)]
        (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(
        UserError, match=rf"1 images that are not PNG, JPEG or WebP and have to be converted \({name}\)"
    ):
        records_of(folder(tmp_path))
    assert ids(folder(tmp_path, on_mismatch="skip")) == ["folder/a.png"]
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match=rf"holds no images .*, but 1 that have to be converted \({name}\)"):
        records_of(folder(tmp_path))


def test_captions_of_both_files_count_once(tmp_path: Path):
    put(
        tmp_path,
        a_png=picture(),
        a_txt="one\ntwo",
        a_caption="two\nthree\n一",
        b_png=picture(),
        b_jpg=picture(kind="JPEG"),
    )
    put(tmp_path, b_txt="b")
    first, *others = records_of(folder(tmp_path))
    assert first.captions == {"en": ["two", "three", "one"], "zh": ["一"]}
    assert [other.captions for other in others] == [{"en": ["b"]}, {"en": ["b"]}]


def test_folders_named_by_repeats_and_concept(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for name in ("10_red_panda/1", "10_red_panda/2", "5_猫/1", "2024_trip/1", "3_dogs/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(picture())
    (tmp_path / "3_dogs/1.txt").write_text("a dog")
    with pytest.raises(UserError, match=r"1 images without a caption \(2024_trip/1\.png\)"):
        records_of(folder(tmp_path))
    (tmp_path / "2024_trip/1.caption").write_text("a trip")
    found = {record.id: record.captions for record in records_of(folder(tmp_path))}
    assert found == {
        "folder/10_red_panda/1.png": {"en": ["red panda"]},
        "folder/10_red_panda/2.png": {"en": ["red panda"]},
        "folder/2024_trip/1.png": {"en": ["a trip"]},
        "folder/3_dogs/1.png": {"en": ["a dog"]},
        "folder/5_猫/1.png": {"zh": ["猫"]},
    }
    assert "10_red_panda: the name of the folder is the caption of its 2 images" in caplog.text
    inner = folder(tmp_path / "10_red_panda")
    assert [record.captions for record in records_of(inner)] == [{"en": ["red panda"]}] * 2
