"""Parquet files with images in them, as on Hugging Face's hub."""

from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.sources import Source, make_source
from tests.preparation.sources.test_own_images import ids
from tests.small_data import picture, records_of

COLOURS = ("red", "blue", "green", "white", "black")


def source(path: Path, **options: Any) -> Source:
    return make_source({"name": "parquet", "path": str(path), **options}, size=64)


def write(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2, **options)
    return path


def rows_of(*colours: str, whole: bool = True) -> list[dict[str, Any]]:
    images = [picture(colour) for colour in colours]
    return [
        {"image": {"bytes": image, "path": None} if whole else image, "text": f"a {colour} one"}
        for image, colour in zip(images, colours, strict=True)
    ]


@pytest.mark.parametrize("whole", [True, False])
def test_images_and_captions_by_row(whole: bool, tmp_path: Path):
    write(tmp_path / "train-0.parquet", rows_of(*COLOURS[:3], whole=whole))
    write(tmp_path / "train-1.parquet", rows_of(*COLOURS[3:], whole=whole))
    for path in (tmp_path, tmp_path / "*.parquet", tmp_path / "train-{0..1}.parquet"):
        records = list(records_of(source(path)))
        assert [record.image for record in records] == [picture(colour) for colour in COLOURS]
        assert [record.captions for record in records] == [{"en": [f"a {colour} one"]} for colour in COLOURS]
        assert records[-1].id == "parquet/train-1/00000001" and records[0].width == 20
    prints = {source(tmp_path, **options).fingerprint() for options in ({}, {"short_side": 8})}
    write(tmp_path / "train-1.parquet", rows_of("white", "blue"))
    assert source(tmp_path).fingerprint() not in prints and len(prints) == 2


def test_all_fields_in_any_case(tmp_path: Path):
    fields = {"ZH": ["一只猫", "猫"], "En": "a cat", "concept": "cat"}
    objects = [{"name": "cat", "box": [0.0, 0.0, 0.5, 1.0]}]
    write(tmp_path / "a.parquet", [{"picture": picture(), **fields, "objects": objects}])
    (record,) = records_of(source(tmp_path / "a.parquet", image="picture", licence="CC0-1.0"))
    assert record.captions == {"zh": ["一只猫", "猫"], "en": ["a cat"]} and record.concept == "parquet/cat"
    assert record.objects == [{"name": {"en": "cat"}, "box": [0.0, 0.0, 0.5, 1.0]}] and record.licence == "CC0-1.0"


def test_mismatches_are_listed_or_left_out(tmp_path: Path):
    rows = [*rows_of("red"), {"image": None, "text": "a"}, {**rows_of("red")[0], "text": " "}]
    rows.append({"image": {"bytes": b"x", "path": None}, "text": "b"})
    write(tmp_path / "a.parquet", rows)
    message = r"1 captions without an image \(a/00000001\); 1 images without a caption \(a/00000002\)"
    with pytest.raises(UserError, match=message):
        records_of(source(tmp_path))
    assert ids(source(tmp_path, on_mismatch="skip")) == ["parquet/a/00000000"]
    write(tmp_path / "a.parquet", rows[3:])
    with pytest.raises(UserError, match=r"the image of row 1 in .*a\.parquet cannot be decoded"):
        records_of(source(tmp_path))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"img": b"", "text": "a"}], "it needs the column 'image' and one of .*, and has img, text"),
        ([{"image": b"", "words": "a"}], "one of zh, en, caption, captions, text, and has image, words"),
        ([{"image": {"bytes": None, "path": "1.jpg"}, "text": "a"}], "its images are paths such as '1.jpg'"),
        ([{"image": "1.jpg", "text": "a"}], "its images are str, and have to be the bytes"),
        ([{"image": b"", "text": 3}], r"a\.parquet, row 1: a caption must be text, not int"),
        ([{"image": b"", "text": "a\0"}], r"row 1: a caption holds a NUL"),
        ([{"image": b"", "text": "a", "Text": "b"}], "there are columns 'text' and 'Text'; rename one"),
        ([{"image": b"", "text": "a", "objects": {"bbox": [[1]]}}], "row 1: objects must be a list"),
    ],
    ids=str,
)
def test_mistakes_are_one_sentence(rows: list[dict[str, Any]], message: str, tmp_path: Path):
    write(tmp_path / "a.parquet", rows)
    with pytest.raises(UserError, match=message):
        records_of(source(tmp_path))


def test_files_that_are_not_whole_are_named(tmp_path: Path):
    file = write(tmp_path / "a.parquet", rows_of(*COLOURS), write_page_checksum=True)
    data = file.read_bytes()
    for number, part in enumerate((b"", b"PAR1", data[:-1], data[: len(data) // 2], data[100:])):
        damaged = tmp_path / f"{number}.parquet"
        damaged.write_bytes(part)
        with pytest.raises(UserError, match=rf"{number}\.parquet is (not a whole parquet file|damaged)"):
            records_of(source(damaged))
    with pytest.raises(UserError, match="matches no file"):
        records_of(source(tmp_path / "*.pq"))
