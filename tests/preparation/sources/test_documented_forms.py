"""What docs/data.md says of the files that captions may be in: each form, taken from its text, is read as it says."""

import csv
import io
import json
import re
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from ernie_vilg_jax.knowledge.words import language_of
from ernie_vilg_jax.preparation.sources import Source, make_source
from tests.preparation.sources.test_own_images import folder, tars, write_tar
from tests.small_data import picture, records_of

TEXT = (Path(__file__).parents[3] / "docs/data.md").read_text(encoding="utf-8").split("## Your own images")[1]
CODE = re.compile("`([^`]+)`")
ROWS = [tuple(CODE.findall(cell) for cell in row) for row in re.findall(r"^\| (.+) \| (.+) \|$", TEXT, re.M)]
JSON_LINES, COMMAS, BESIDE, NAMED = (
    next((files, held) for files, held in ROWS if any(word in name for name in (*files, *held)))
    for word in (".jsonl", ".csv", "1.txt", "red panda")
)
SENTENCE = re.search(r"The file is named (.+?); captions (.+?), in any case", TEXT)
assert SENTENCE
FILE_KEYS, CAPTION_KEYS = (CODE.findall(part) for part in SENTENCE.groups())
IN_TARS = CODE.findall(re.search(r"captions in (`0001.+?`0001\.json`)", TEXT, re.S)[1])  # type: ignore[index]


def written(path: Path, files: dict[str, bytes | str]) -> None:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def captions_of(source: Source) -> list[dict[str, list[str]]]:
    return [dict(record.captions) for record in records_of(source)]


def test_the_text_has_all_forms() -> None:
    assert JSON_LINES[0] == ["captions.jsonl", "metadata.jsonl"] and COMMAS[0] == ["captions.csv", "metadata.csv"]
    assert BESIDE[0] == ["1.txt", "1.caption", "1.jpg"] and NAMED == (["10_red_panda"], ["red panda"])
    assert (len(FILE_KEYS), len(CAPTION_KEYS), len(IN_TARS)) == (3, 5, 5)


@pytest.mark.parametrize("table", JSON_LINES[0])
def test_objects_in_lines(table: str, tmp_path: Path) -> None:
    (line,) = JSON_LINES[1]
    row = json.loads(line)
    written(tmp_path, {row["file"]: picture(kind="JPEG"), table: line})
    assert captions_of(folder(tmp_path)) == [{"zh": [row["zh"]], "en": row["en"]}]


@pytest.mark.parametrize("header", COMMAS[1])
@pytest.mark.parametrize("table", COMMAS[0])
def test_comma_separated_values(table: str, header: str, tmp_path: Path) -> None:
    texts = {"file": "1.jpg", "zh": "一只猫", "en": "a cat, asleep", "caption": "a cat, asleep"}
    buffer = io.StringIO()
    csv.DictWriter(buffer, header.split(","), extrasaction="ignore").writerow(texts)
    written(tmp_path, {"1.jpg": picture(kind="JPEG"), table: f"{header}\n{buffer.getvalue()}"})
    expected = {language_of(texts[name]): [texts[name]] for name in header.split(",")[1:]}
    assert captions_of(folder(tmp_path)) == [expected]


@pytest.mark.parametrize("file", BESIDE[0][:2])
def test_files_beside_images_hold_a_caption_a_line(file: str, tmp_path: Path) -> None:
    written(tmp_path, {BESIDE[0][2]: picture(kind="JPEG"), file: "a cat\na small cat\n"})
    assert captions_of(folder(tmp_path)) == [{"en": ["a cat", "a small cat"]}]


def test_a_folders_name_is_the_caption(tmp_path: Path) -> None:
    written(tmp_path, {f"{NAMED[0][0]}/1.jpg": picture(kind="JPEG")})
    assert captions_of(folder(tmp_path)) == [{"en": NAMED[1]}]


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
@pytest.mark.parametrize("key", CAPTION_KEYS)
@pytest.mark.parametrize("file_key", FILE_KEYS)
def test_names_of_fields_in_any_case(file_key: str, key: str, change: object, tmp_path: Path) -> None:
    row = {change(file_key): "1.jpg", change(key): "猫"}  # type: ignore[operator]
    written(tmp_path, {"1.jpg": picture(kind="JPEG"), "captions.jsonl": json.dumps(row)})
    language = key if key in ("zh", "en") else "zh"
    assert captions_of(folder(tmp_path)) == [{language: ["猫"]}]
    table = {"image": [picture()], change(key): ["猫"]}  # type: ignore[operator]
    parquet.write_table(pyarrow.table(table), tmp_path / "0.parquet")
    source = make_source({"name": "parquet", "path": str(tmp_path / "0.parquet")}, size=16)
    assert captions_of(source) == [{language: ["猫"]}]


@pytest.mark.parametrize("file", IN_TARS)
def test_captions_in_tars(file: str, tmp_path: Path) -> None:
    content = '{"caption": "猫"}' if file.endswith("json") else "猫"
    write_tar(tmp_path / "0.tar", {"0001.jpg": picture(kind="JPEG"), file: content})
    language = "en" if ".en." in file else "zh"
    assert captions_of(tars(tmp_path / "0.tar")) == [{language: ["猫"]}]
