"""Existing boxes from files: COCO annotations, COCO detection results, Visual Genome's objects.

    COCO      {"images": [{"id", "file_name", "width", "height"}], "categories": [...], "annotations": [{"image_id",
              "category_id", "bbox": [x, y, w, h], "score"?}]}
    results   [{"image_id", "category_id", "bbox", "score"}], with the COCO file they belong to in `images`
    VG        objects.json [{"image_id", "objects": [{"names", "x", "y", "w", "h"}]}], with image_data.json in `images`

Formats: https://cocodataset.org/#format-data, https://homes.cs.washington.edu/~ranjay/visualgenome/api.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from absl import logging
from PIL import Image

from ernie_vilg_jax.annotation.detectors import Detection, detection
from ernie_vilg_jax.annotation.detectors.names import Names, read_json
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop.pretrained import check_ids

_PATIENCE = 1000
"""After this many records without boxes and none with boxes, something is probably wrong."""


class BoxFiles:
    """Looks boxes up by a record's id.

    A record belongs to the annotated image whose file name ends its id ("folder/val/7.jpg" and "val/7.jpg"), or has the
    same stem, or whose number is that stem ("000000391895" and 391895), in this order.
    """

    def __init__(
        self, path: str | Sequence[str], images: str | Sequence[str] = (), threshold: float = 0.0, label_names: str = ""
    ) -> None:
        """Reads the files completely.

        Args:
          path: JSON file or files of boxes.
          images: file with the sizes of images, for results and Visual Genome's objects (for results also categories).
          threshold: lowest score to keep; annotations without a score have 1.
          label_names: JSON file {"English name": "Chinese name"} for names other than COCO's.
        """
        self._names, self._threshold = Names(label_names), threshold
        self._boxes: dict[int | str, list[Detection]] = {}
        self._sizes: dict[int | str, tuple[float, float]] = {}
        self._categories: dict[int, dict[str, str]] = {}
        self._by_file: dict[str, set[int | str]] = {}
        self._found = self._missed = 0
        for file in _files(images):
            self._guard(file, self._read_images)
        paths = _files(path)
        if not paths:
            raise UserError("detector 'boxes' needs the option path: a JSON file of COCO or Visual Genome boxes")
        for file in paths:
            self._guard(file, self._read_boxes)

    def _guard(self, file: Path, read: Any) -> None:
        content = read_json(file, f"box file {file}", "give the path of a whole COCO or Visual Genome file")
        try:
            read(content)
        except UserError as error:
            raise UserError(f"box file {file}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else f"has an unexpected value ({error})"
            raise UserError(f"box file {file} {what}: it must be COCO or Visual Genome JSON") from error

    def _read_images(self, content: Any) -> None:
        if isinstance(content, dict):
            for category in content.get("categories", ()):
                self._categories[category["id"]] = self._names(str(category["name"]))
            content = content["images"]
        for image in content:
            key = image["id"] if "id" in image else image["image_id"]  # Visual Genome has had both
            size = float(image["width"]), float(image["height"])
            if min(size) <= 0 or self._sizes.get(key, size) != size:
                raise UserError(f"image {key} has no size, or two: annotations of different data need a detector each")
            self._sizes[key] = size
            self._boxes.setdefault(key, [])
            name = str(image.get("file_name") or "")
            path = PurePosixPath(name.replace("\\", "/"))
            for alias in {str(path), path.stem} if name else ():
                self._by_file.setdefault(alias, set()).add(key)

    def _read_boxes(self, content: Any) -> None:
        if isinstance(content, dict):
            self._read_images(content)
            for item in content["annotations"]:
                if not item.get("iscrowd"):
                    self._add(item["image_id"], item["category_id"], item["bbox"], item.get("score", 1.0))
            return
        if not isinstance(content, list):
            raise TypeError("neither a list nor an object")
        for item in content:
            if "objects" not in item:
                self._add(item["image_id"], item["category_id"], item["bbox"], item.get("score", 1.0))
                continue
            key = item["image_id"] if "image_id" in item else item["id"]
            for thing in item["objects"]:
                names = thing.get("names") or [thing["name"]]
                self._add(key, names[0], (thing["x"], thing["y"], thing["w"], thing["h"]), 1.0)

    def _add(self, key: int | str, label: int | str, box: Sequence[float], score: float) -> None:
        if key not in self._sizes:
            raise UserError(
                f"image {key} has boxes but no size: name the file that lists the images (COCO annotations, or Visual "
                "Genome's image_data.json) in the option images"
            )
        if isinstance(label, int):
            if label not in self._categories:
                raise UserError(f"category {label} has no name: name the COCO annotations in the option images")
            name = self._categories[label]
        else:
            name = self._names(label)
        x, y, w, h = map(float, box)
        width, height = self._sizes[key]
        item = detection(name, (x / width, y / height, (x + w) / width, (y + h) / height), float(score))
        if item is not None and name and item.score >= self._threshold:
            self._boxes[key].append(item)

    def detect(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[list[Detection]]:
        """The boxes of each id in the order of the file, [] if the files do not have it."""
        check_ids(images, ids)
        return [self._look_up(id) for id in ids]

    def _look_up(self, id: str) -> list[Detection]:
        key = self._key(id)
        if key is not None:
            self._found += 1
            return list(self._boxes[key])
        self._missed += 1
        if self._missed == _PATIENCE and not self._found:
            logging.warning("none of the first %d records (such as %r) is in the box files", _PATIENCE, id)
        return []

    def _key(self, id: str) -> int | str | None:
        parts = id.split("/")
        stem = PurePosixPath(parts[-1]).stem
        for name in (*("/".join(parts[k:]) for k in range(len(parts))), stem):
            keys = self._by_file.get(name, ())
            if len(keys) > 1:
                raise UserError(
                    f"record {id!r} may be any of the images {', '.join(map(str, sorted(keys, key=str)[:3]))} of the "
                    "box files, which share its name: give the records the folders of the annotations' file_name"
                )
            if keys:
                return next(iter(keys))
        for number in (stem, stem.rpartition("_")[2]):  # "COCO_val2014_000000391895"
            if number.isdecimal() and int(number) in self._boxes:
                return int(number)
            if number in self._boxes:
                return number
        return None


def _files(value: str | Path | Sequence[str | Path]) -> list[Path]:
    if isinstance(value, str | Path):
        return [Path(value)] if str(value) else []
    return [Path(item) for item in value]
