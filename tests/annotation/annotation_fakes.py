"""Annotators that need no model, and a file system behind URLs, for the annotation tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ernie_vilg_jax.annotation.detectors import Detection


class Detector:
    """A cup in every image, unless the id is among the bad ones; counts what it is given."""

    given = 0

    def __init__(self, bad: Sequence[str] = (), always: bool = False, model: str = "") -> None:
        self.bad, self.always, self.model = set(bad), always, model

    def detect(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[list[Detection]]:
        Detector.given = max(Detector.given, len(images))
        if self.always or self.bad & set(ids):
            raise RuntimeError("out of cups")
        return [[Detection({"en": "cup", "zh": "杯子"}, (0.0, 0.25, 0.5, 1.0), 0.75)] for _ in images]


class Captioner:
    def captions(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[dict[str, str]]:
        return [{"en": f"a cup on {image.mode}"} for image in images]


class Translator:
    def translate(self, texts: Sequence[str]) -> list[str]:
        return [f"一个杯子{len(text)}" for text in texts]


def url_file_system(root: Path, name: str = "test") -> Any:
    """A file system of Apache Beam for NAME://, kept in a folder here; the class must be referred to while used."""
    from apache_beam.io.filesystem import FileMetadata
    from apache_beam.io.localfilesystem import LocalFileSystem

    class TestFileSystem(LocalFileSystem):
        @classmethod
        def scheme(cls) -> str:
            return name

        def _here(self, url: str) -> str:
            return str(root / url.removeprefix(f"{name}://"))

        def mkdirs(self, path: str) -> None:
            super().mkdirs(self._here(path))

        def exists(self, path: str) -> bool:
            return super().exists(self._here(path))

        def create(self, path: str, *arguments: Any, **options: Any) -> Any:
            return super().create(self._here(path), *arguments, **options)

        def open(self, path: str, *arguments: Any, **options: Any) -> Any:
            return super().open(self._here(path), *arguments, **options)

        def delete(self, paths: Sequence[str]) -> None:
            super().delete([self._here(path) for path in paths])

        def metadata(self, path: str) -> Any:
            found = super().metadata(self._here(path))
            return FileMetadata(path, found.size_in_bytes, found.last_updated_in_seconds)

        def _list(self, dir_or_prefix: str) -> Any:
            for file in super()._list(self._here(dir_or_prefix)):
                url = f"{name}://{Path(file.path).relative_to(root).as_posix()}"
                yield FileMetadata(url, file.size_in_bytes, file.last_updated_in_seconds)

    return TestFileSystem
