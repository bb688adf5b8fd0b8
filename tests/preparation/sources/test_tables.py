"""Tables of captions: the accepted rows, and one sentence with file and line for all others."""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.sources import Source, make_source, pairs, tables
from ernie_vilg_jax.preparation.sources.findings import Findings
from tests.preparation.sources.test_own_images import folder, put, tars, write_tar
from tests.small_data import picture, records_of
from tests.test_texts import SEPARATORS

SOURCES = ("captions.jsonl", "captions.csv", "1.txt", "1.txt in a tar", "1.json in a tar")


def source_of(where: str, path: Path, caption: str) -> Source:
    """One image with one caption, given in one of SOURCES."""
    path.mkdir(parents=True, exist_ok=True)
    row = json.dumps({"caption": caption}, ensure_ascii=False)
    if where.endswith("tar"):
        content = row if "json" in where else caption
        write_tar(path / "s.tar", {"1.png": picture(), where.split()[0]: content})
        return tars(path / "s.tar")
    put(path, **{"1_png": picture()})
    content = {
        "captions.jsonl": row.replace("{", '{"file": "1.png", '),
        "captions.csv": f'file,caption\n1.png,"{caption}"\n',
        "1.txt": caption,
    }[where]
    (path / where).write_bytes(content.encode())
    return folder(path)


@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
@pytest.mark.parametrize("where", SOURCES)
def test_line_separators_do_not_cut_captions(where: str, separator: str, tmp_path: Path):
    caption = f"a red{separator if ord(separator) > 31 or 'json' not in where else ' '}cat"
    (record,) = records_of(source_of(where, tmp_path, caption))
    assert record.captions == {"en": [caption]}


@pytest.mark.parametrize("where", SOURCES)
def test_byte_order_marks_and_spaces_are_not_part_of_captions(where: str, tmp_path: Path):
    (record,) = records_of(source_of(where, tmp_path, "\ufeff a cat \u3000\ufeff"))
    assert record.captions == {"en": ["a cat"]} and record.concept.endswith("/a cat")


@pytest.mark.parametrize("where", ["captions.jsonl", "1.json in a tar"])
@pytest.mark.parametrize("escape", [r"\ud83d", r"a\udc00b", r"\u0000"])
def test_half_characters_and_nul_are_named_with_file_and_line(where: str, escape: str, tmp_path: Path):
    source = source_of(where, tmp_path, "CAPTION")
    if "tar" in where:
        write_tar(tmp_path / "s.tar", {"1.png": picture(), "1.json": f'{{"en": "{escape}"}}'})
        message = r"1\.json in .*s\.tar: not JSON that can be used"
    else:
        (tmp_path / where).write_text(f'\n{{"file": "1.png", "en": "{escape}"}}\n')
        message = r"captions\.jsonl, line 2: not JSON that can be used"
    with pytest.raises(UserError, match=message):
        records_of(source)


@pytest.mark.parametrize("where", SOURCES)
def test_nul_bytes_are_named(where: str, tmp_path: Path):
    with pytest.raises(UserError, match=r"not JSON|line \d: there is a NUL"):
        records_of(source_of(where, tmp_path, "a\0b"))


FAULTS = [
    ("captions.jsonl", '{"file": "a.png", "en": "a", "en": "b"}', r"line 1: .*the key 'en' twice"),
    ("captions.jsonl", '{"file": "a.png", "en": "a", "EN": "b"}', r"line 1: 'EN' is there twice"),
    ("captions.jsonl", "\n" + "[" * 100_000, r"line 2: .*nested too deeply"),
    ("captions.jsonl", '{"file": "a.png", "en": ["a", 3]}', r"line 1: a caption must be text, not int"),
    ("captions.jsonl", '{"file": "a.png", "en": {"a": "b"}}', r"line 1: a caption must be text, not dict"),
    ("captions.jsonl", '{"file": "a.png", "en": "a", "concept": ["x"]}', r"line 1: concept must be text, not list"),
    ("captions.jsonl", '{"file": ["a.png"], "en": "a"}', r"line 1: no file name"),
    ("captions.csv", "file,caption\na.png,a cat, asleep\n", r"line 2: 3 values where the first line names 2 columns"),
    ("captions.csv", 'file,zh,en\n\na.png,,a,"b, c"', r"line 3: 4 values where .* names 3"),
    ("captions.csv", 'file,caption\na.png,"a cat\n', r"line 2: .*unexpected end.* a quote that is opened there"),
    ("captions.csv", 'file,caption\na.png,"a cat\nb.png,a\nc.png,"a"\n', r"line 2: .* a quote that is opened"),
    ("captions.csv", 'file,caption\na.png,"a "red" cat"\n', r"line 2: .* not doubled"),
    ("captions.csv", f"file,caption\na.png,{'a' * 200_000}\n", r"line 2: .*field larger than field limit"),
    ("captions.csv", "file,caption,caption\na.png,a,b\n", r"line 1: 'caption' is there twice"),
    ("captions.csv", "file,en,En\na.png,a,b\n", r"line 1: 'En' is there twice"),
    ("captions.csv", "file;caption\na.png;a\n", r"must name the columns, .* with commas between them"),
    ("captions.csv", "file,words\na.png,a\n", r"none of zh, en, caption, captions, text is there"),
    ("captions.csv", "", r"must name the columns"),
    ("captions.csv", "file,caption\n,a\n", r"line 2: no file name"),
    ("captions.csv", "file,caption,objects\na.png,a,cat\n", r"line 2: objects must be a list \(in captions.jsonl\)"),
]


@pytest.mark.parametrize(("name", "content", "message"), FAULTS, ids=[f"{n}: {m[:40]}" for n, _, m in FAULTS])
def test_faults_of_tables_are_one_sentence_with_file_and_line(name: str, content: str, message: str, tmp_path: Path):
    put(tmp_path, a_png=picture())
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=rf"{name}[:,] ?{message}|{name}: .*{message}") as told:
        records_of(folder(tmp_path))
    assert len(str(told.value)) < 500


@pytest.mark.parametrize("table", ["captions.csv", "metadata.csv", "captions.jsonl", "metadata.jsonl"])
@pytest.mark.parametrize(("file", "caption"), [("file", "caption"), ("file_name", "text"), ("File_Name", "Text")])
def test_tables_of_neighbours(table: str, file: str, caption: str, tmp_path: Path):
    put(tmp_path, a_png=picture(), b_png=picture())
    rows = [{file: f"{name}.png", caption: f"a {name}, asleep"} for name in "ab"]
    lines = [json.dumps(row) for row in rows]
    if table.endswith("csv"):
        lines = [f"{file},{caption} ,", *(f'{row[file]},"{row[caption]}",' for row in rows), " ,,"]
    (tmp_path / table).write_text("\n".join(lines) + "\n")
    assert [record.captions for record in records_of(folder(tmp_path))] == [
        {"en": ["a a, asleep"]},
        {"en": ["a b, asleep"]},
    ]


def test_ignored_tables_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    put(tmp_path, a_png=picture(), a_txt="from the text", notes_txt="not about an image")
    for name in tables.NAMES[:2]:
        (tmp_path / name).write_text(f'{{"file": "a.png", "en": "from {name}"}}')
    (record,) = records_of(folder(tmp_path))
    assert record.captions == {"en": ["from captions.jsonl"]}
    assert "captions are read in captions.jsonl, not in metadata.jsonl, a.txt" in caplog.text


BOX = [0.1, 0.2, 0.5, 1.0]
OBJECTS: list[tuple[Any, str]] = [
    ("cat", "objects must be a list"),
    ({"box": BOX}, "objects must be a list"),
    (["cat"], "each of objects must be as"),
    ([{"name": "cat", "bbox": BOX}], "each of objects must be as"),
    ([{"box": [10, 20, 100, 200]}], "not in fractions of the image, from 0 to 1: divide pixels by its size"),
    ([{"box": [0, 0, 1, 2]}], "not in fractions"),
    ([{"box": BOX}, {"box": BOX[:3]}], r"the box \[0.1, 0.2, 0.5\] is not four numbers"),
    ([{"box": [*BOX, 1.0]}], "is not four numbers"),
    ([{"box": ["0", "0", "1", "1"]}], "is not four numbers"),
    ([{"box": [0, 0, True, 1]}], "is not four numbers"),
    ([{"box": [0, 0, float("nan"), 1]}], "is not four numbers"),
    ([{"box": [0, 0, 10**400, 1]}], "is not four numbers"),
    ([{"box": {"x": 1}}], "is not four numbers"),
    ([{"box": [0.5, 0.5, 0.2, 0.2]}], r"is empty: give its corners"),
    ([{"box": BOX, "score": "high"}], "the score 'high' is not a number"),
    ([{"box": BOX, "name": ["cat"]}], r"the name \['cat'\] of an object is not text"),
    ([{"box": BOX, "name": {"en": 1}}], "of an object is not text"),
]


@pytest.mark.parametrize(("objects", "message"), OBJECTS, ids=lambda value: str(value)[:40])
def test_objects_of_a_wrong_form_are_named(objects: Any, message: str, tmp_path: Path):
    put(tmp_path, a_png=picture())
    row = {"en": "a", "objects": objects}
    (tmp_path / "captions.jsonl").write_text("\n" + json.dumps({"file": "a.png", **row}))
    with pytest.raises(UserError, match=rf"captions\.jsonl, line 2: .*{message}"):
        records_of(folder(tmp_path))
    write_tar(tmp_path / "s.tar", {"1.png": picture(), "1.json": json.dumps(row)})
    with pytest.raises(UserError, match=rf"1\.json in .*s\.tar: .*{message}"):
        records_of(tars(tmp_path / "s.tar"))


def test_names_of_objects_are_by_language(tmp_path: Path):
    given = [
        {"box": BOX, "name": "猫"},
        {"box": BOX, "name": {"en": "cat"}, "score": 1},
        {"box": BOX},
        {"box": BOX, "name": ""},
    ]
    names = [item["name"] for item in pairs.read_objects(given)]
    assert names == [{"zh": "猫"}, {"en": "cat"}, {}, {}]
    assert pairs.read_objects(None) == pairs.read_objects([]) == pairs.read_objects("") == []
    assert pairs.read_objects([{"box": [-0.005, 0, 1.005, 1]}])


@pytest.mark.parametrize(
    ("captions", "told"),
    [
        (["a red cat", "一只猫"], None),
        (["a cat", "кошка", "γάτα"], "by their letters: 2, such as"),
        (["a cat", "ねこがいる", "고양이", "قطة", "แมว", "बिल्ली"], "by their letters: 5, such as"),
        (["une chatte tachetée", "un château", "le chien"], "by their letters: 2, such as"),
        ([*["a cat"] * 30, "a café"], None),
    ],
)
def test_captions_of_other_languages_warn(captions: list[str], told: str | None, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    findings = Findings()
    for one in (pairs.sort_captions({"caption": captions}), {"en": ["another"]}):
        part = Findings()
        part.captions(one)
        findings.join(part.plain())
    findings.report("here")
    assert (told in caplog.text) if told else not caplog.text


@pytest.mark.parametrize("where", ["folder", "tar"])
def test_one_caption_for_all_images_is_logged(where: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    files = {"1.png": picture(), "1.txt": "a cat", "2.png": picture(), "2.txt": "a cat"}
    if where == "tar":
        write_tar(tmp_path / "s.tar", files)
        records_of(tars(tmp_path / "s.tar"))
    else:
        for name, content in files.items():
            (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        records_of(folder(tmp_path))
    assert "all 2 images have the same caption, 'a cat'" in caplog.text


def test_a_concept_may_be_a_number():
    one, other = pairs.read_fields({"en": "a", "concept": 0}, ""), pairs.read_fields({"en": "a", "concept": " "}, "")
    assert pairs.concept_of("folder", one.concept, one.captions) == "folder/0"
    assert pairs.concept_of("folder", other.concept, other.captions) == "folder/a"


@pytest.mark.parametrize(("name", "option"), [("folder", "path"), ("tfds", "dataset")])
def test_urls_in_a_config_are_refused_by_name(name: str, option: str):
    with pytest.raises(UserError, match=rf"config\.data\.sources\.{name}\.{option}=gs://b/x is a URL"):
        make_source({"name": name, option: "gs://b/x"}, size=16)


@pytest.mark.parametrize("kind", ["folder", "tars", "parquet"])
def test_data_of_which_nothing_is_left_are_named(kind: str, tmp_path: Path):
    if kind == "tars":
        write_tar(tmp_path / "0.tar", {"1.txt": "x"})
    elif kind == "parquet":
        parquet.write_table(pyarrow.table({"image": [], "text": []}), tmp_path / "0.parquet")
    else:
        put(tmp_path, **{"1_txt": "x", "2_png": picture()})
    source = make_source({"name": kind, "path": str(tmp_path), "on_mismatch": "skip"}, size=16)
    with pytest.raises(UserError, match=f"{tmp_path} holds no image with a caption"):
        records_of(source)
