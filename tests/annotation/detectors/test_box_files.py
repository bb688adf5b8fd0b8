"""Boxes from COCO and Visual Genome files."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ernie_vilg_jax.annotation.detectors import Detection, make_detector
from ernie_vilg_jax.errors import UserError

COCO = {
    "images": [
        {"id": 42, "file_name": "000000000042.jpg", "width": 200, "height": 100},
        {"id": 7, "file_name": "val/seven.png", "width": 100, "height": 100},
        {"id": 8, "file_name": "train/eight.png", "width": 10, "height": 10},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 47, "name": "cup"}, {"id": 99, "name": "fjord"}],
    "annotations": [
        {"image_id": 42, "category_id": 47, "bbox": [20, 10, 40, 50]},
        {"image_id": 42, "category_id": 1, "bbox": [0, 0, 200, 100], "iscrowd": 1},
        {"image_id": 42, "category_id": 99, "bbox": [150, 50, 100, 100], "score": 0.25},
        {"image_id": 42, "category_id": 1, "bbox": [5, 5, 0, 10]},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 50, 100]},
    ],
}
CUP = Detection({"en": "cup", "zh": "杯子"}, (0.1, 0.1, 0.3, 0.6), 1.0)
FJORD = Detection({"en": "fjord"}, (0.75, 0.5, 1.0, 1.0), 0.25)
PERSON = Detection({"en": "person", "zh": "人"}, (0.0, 0.0, 0.5, 1.0), 1.0)


def write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def detect(detector: Any, *ids: str) -> list[list[Detection]]:
    return detector.detect([Image.new("RGB", (4, 4))] * len(ids), ids)


def test_coco(tmp_path: Path):
    detector = make_detector("boxes", path=write(tmp_path / "a.json", COCO))
    found = detect(detector, "coco/000000000042.jpg", "coco/val/seven.png", "coco/eight", "coco/other.png")
    assert found == [[CUP, FJORD], [PERSON], [], []]  # in the order of the file; no crowds, no empty boxes


@pytest.mark.parametrize("id", ["000000000042.jpg", "x/y/000000000042.webp", "t/000000000042", "t/42.png", "a_42.jpg"])
def test_records_are_matched_by_file_name_stem_or_number(tmp_path: Path, id: str):
    assert detect(make_detector("boxes", path=write(tmp_path / "a.json", COCO)), id) == [[CUP, FJORD]]


def test_threshold_and_names(tmp_path: Path):
    names = write(tmp_path / "names.json", {"Fjord": "峡湾", "cup": "茶杯"})
    path = write(tmp_path / "a.json", COCO)
    [[cup, fjord]] = detect(make_detector("boxes", path=path, label_names=names), "42.jpg")
    assert cup.name == {"en": "cup", "zh": "茶杯"} and fjord.name == {"en": "fjord", "zh": "峡湾"}
    assert detect(make_detector("boxes", path=path, threshold=0.5), "42.jpg") == [[CUP]]


def test_results_of_a_detector(tmp_path: Path):
    results = [{"image_id": 42, "category_id": 47, "bbox": [20, 10, 40, 50], "score": 0.75}]
    images = {key: COCO[key] for key in ("images", "categories")}
    detector = make_detector(
        "boxes", path=write(tmp_path / "r.json", results), images=write(tmp_path / "i.json", images)
    )
    assert detect(detector, "42.jpg") == [[CUP._replace(score=0.75)]]


def test_several_files(tmp_path: Path):
    second = {
        "images": [{"id": 9, "file_name": "nine.png", "width": 100, "height": 100}],
        "categories": [{"id": 5, "name": "person"}],
        "annotations": [{"image_id": 9, "category_id": 5, "bbox": [0, 0, 50, 100]}],
    }
    paths = [write(tmp_path / "a.json", COCO), write(tmp_path / "b.json", second)]
    assert detect(make_detector("boxes", path=paths), "nine.png", "42.png") == [[PERSON], [CUP, FJORD]]


def test_visual_genome(tmp_path: Path):
    sizes = [{"image_id": 3, "width": 200, "height": 100, "url": "https://example.com/3.jpg"}]
    objects = [
        {
            "image_id": 3,
            "objects": [
                {"names": ["cup", "mug"], "x": 20, "y": 10, "w": 40, "h": 50},
                {"names": ["wooden table"], "x": 0, "y": 50, "w": 200, "h": 50},
            ],
        }
    ]
    detector = make_detector(
        "boxes", path=write(tmp_path / "objects.json", objects), images=write(tmp_path / "image_data.json", sizes)
    )
    table = Detection({"en": "wooden table"}, (0.0, 0.5, 1.0, 1.0), 1.0)
    assert detect(detector, "vg/3.jpg") == [[CUP, table]]


def test_a_name_that_two_images_share(tmp_path: Path):
    images = [{"id": k, "file_name": f"{folder}/1.png", "width": 9, "height": 9} for k, folder in enumerate("ab")]
    detector = make_detector(
        "boxes", path=write(tmp_path / "a.json", {"images": images, "annotations": [], "categories": []})
    )
    assert detect(detector, "folder/a/1.png") == [[]]
    with pytest.raises(UserError, match=r"'folder/1.png' may be any of the images 0, 1"):
        detect(detector, "folder/1.png")


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in COCO.items() if name != key}


def annotated(**change: Any) -> dict[str, Any]:
    return COCO | {"annotations": [COCO["annotations"][0] | change]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ('{"images": [', "is not JSON"),
        ("3", "unexpected value"),
        ({}, "lacks 'images'"),
        (without("annotations"), "lacks 'annotations'"),
        (without("categories"), "category 47 has no name: name the COCO annotations in the option images"),
        (annotated(image_id=1), "image 1 has boxes but no size: name the file that lists the images"),
        (annotated(bbox=[1, 2, 3]), "unexpected value"),
        (annotated(bbox=None), "unexpected value"),
        (annotated(bbox=["a", 1, 1, 1]), "unexpected value"),
        (COCO | {"images": [{"id": 42, "file_name": "a.png"}]}, "lacks 'width'"),
        (COCO | {"images": [{"id": 42, "width": 0, "height": 5}]}, "has no size, or two"),
        (COCO | {"images": [*COCO["images"], COCO["images"][0] | {"width": 5}]}, "image 42 has no size, or two"),
        ([{"image_id": 42, "category_id": 1, "bbox": [0, 0, 1, 1]}], "image 42 has boxes but no size"),
        ([{"image_id": 1, "objects": [{"x": 1}]}], "lacks 'name'"),
        ([3], "unexpected value"),
    ],
)
def test_broken_files(tmp_path: Path, content: Any, message: str):
    path = write(tmp_path / "a.json", content)
    with pytest.raises(UserError, match=message) as caught:
        make_detector("boxes", path=path)
    assert path in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files(tmp_path: Path):
    with pytest.raises(UserError, match="cannot be read"):
        make_detector("boxes", path=str(tmp_path / "none.json"))
    with pytest.raises(UserError, match="needs the option path"):
        make_detector("boxes", path=[])
    for content, message in (("{", "is not JSON"), ("[]", "no table of names"), ('{"a": 1}', "no table of names")):
        with pytest.raises(UserError, match=message.replace("no table", "not a table")):
            make_detector(
                "boxes",
                path=write(tmp_path / "a.json", COCO),
                label_names=write(tmp_path / "n.json", content),
            )
    with pytest.raises(UserError, match=r"label_names=.* cannot be read"):
        make_detector("boxes", path=str(tmp_path / "a.json"), label_names=str(tmp_path / "none.json"))


def test_records_that_match_nothing_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from absl import logging

    warnings: list[str] = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: warnings.append(text % values))
    detector = make_detector("boxes", path=write(tmp_path / "a.json", COCO))
    detect(detector, *(f"other/x{k}.png" for k in range(1500)))
    assert warnings == ["none of the first 1000 records (such as 'other/x999.png') is in the box files"]
