"""A folder of images (subfolders too) with captions, in one of four ways.

  captions.jsonl   one object a line: {"file": "cats/1.jpg", "zh": "一只猫", "en": ["a cat", "a small cat"]}
  captions.csv     a header line with the same names: file,zh,en
  1.txt            beside 1.jpg, one caption a line; or 1.caption
  10_cat/          a folder whose images have no captions beside them: its name without the number is their caption

metadata.jsonl and metadata.csv of Hugging Face count as captions.*. "caption" or "text" may stand for "zh" and "en": a
caption with Han characters is Chinese. A row may also give "concept" (the unit that is held out together; default: its
first caption) and "objects" (see `Record`).
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from absl import logging

from ernie_vilg_jax import texts
from ernie_vilg_jax.data.files import digest, file_sha256
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.sources import indices, pairs, ranges
from ernie_vilg_jax.preparation.sources.findings import NO_CAPTION, NO_IMAGE, UNDECODABLE, UNREAD, Findings
from ernie_vilg_jax.preparation.sources.pairs import Fields
from ernie_vilg_jax.preparation.sources.tables import FILE_KEYS, NAMES, read_table

_CAPTION_SUFFIXES = (".txt", ".caption")
_REPEATED = re.compile(r"(\d{1,3})_(.+)")
"""A folder name as in LoRA training: the number of repeats of its images, and what they show."""


@dataclasses.dataclass
class FolderSource(pairs.PairSource):
    """Images below the folder `path`."""

    name: str = dataclasses.field(default="folder", init=False)

    @property
    def _folder(self) -> Path:
        folder = Path(self.path).expanduser()
        if not self.path or not folder.is_dir():
            raise UserError(f"source 'folder': path={self.path!r} is not a folder")
        return folder

    @functools.cached_property
    def _names(self) -> list[str]:
        """All files by their path in the folder, without hidden files of macOS and Windows."""
        names = [file.relative_to(self._folder).as_posix() for file in _files(self._folder) if file.name[:2] != "._"]
        for name in names:
            pairs.check_name(name, str(self._folder))
        return sorted(names)

    @functools.cached_property
    def _images(self) -> dict[str, Path]:
        found = (name for name in self._names if Path(name).suffix.lower() in pairs.IMAGE_SUFFIXES)
        images = {name: self._folder / name for name in found if (self._folder / name).is_file()}
        if not images:
            other = self._unread
            raise UserError(
                f"{self._folder} holds no images ({', '.join(pairs.IMAGE_SUFFIXES)})"
                + (f", but {len(other)} that have to be converted ({', '.join(other[:3])})" if other else "")
            )
        return images

    @property
    def _unread(self) -> list[str]:
        """Images in unsupported formats."""
        return [name for name in self._names if Path(name).suffix.lower() in pairs.OTHER_SUFFIXES]

    @functools.cached_property
    def _listed(self) -> tuple[list[pairs.Example], Findings]:
        """All examples, without their images: the list of a folder is held as a whole."""
        findings, left_out = Findings(), set()
        fields = dict(self._fields())
        missing = [file for file in fields if file not in self._images]
        unread = [file for file in missing if Path(file).suffix.lower() in pairs.OTHER_SUFFIXES]
        mismatches = {
            NO_IMAGE: [file for file in missing if file not in unread],
            UNREAD: unread,
            NO_CAPTION: [file for file in self._images if file not in fields or not fields[file].captions],
            UNDECODABLE: self._undecodable() if self.on_mismatch == "skip" else [],
        }
        for kind, names in mismatches.items():
            findings.mismatch(kind, *names)
            left_out.update(names)
        findings.refuse(self.place(), self.on_mismatch)
        examples = [self.example(file, file, fields[file]) for file in self._images if file not in left_out]
        if ignored := sorted(set(self._unread) - left_out):
            logging.warning("%s: %d %s, such as %s", self._folder, len(ignored), UNREAD, ignored[0])
        return examples, findings

    def parts(self) -> Sequence[str]:
        return ranges(len(self._listed[0])) or ["0-0"]

    def examples(self, part: str, opened: None, findings: Findings) -> Sequence[pairs.Example]:
        examples, mismatches = self._listed
        within = indices(part)
        if within.start == 0:
            findings.join(mismatches.plain())
        return examples[within.start : within.stop]

    def place(self) -> str:
        return str(self._folder)

    def _fields(self) -> Iterator[tuple[str, Fields]]:
        """(image, its fields); if there is no such image, the given name."""
        tables = [name for name in NAMES if name in self._names]
        beside = [name for name in self._names if Path(name).suffix.lower() in _CAPTION_SUFFIXES]
        if not tables:
            return self._beside(beside)
        if others := [*tables[1:], *(name for name in beside if self._with_stem(name))]:
            logging.warning("%s: captions are read in %s, not in %s", self._folder, tables[0], ", ".join(others[:3]))
        return self._of_table(self._folder / tables[0])

    def _of_table(self, table: Path) -> Iterator[tuple[str, Fields]]:
        seen: set[str] = set()
        for where, row in read_table(table):
            given = next((row[key] for key in FILE_KEYS if row.get(key)), None)
            if not isinstance(given, str):
                raise UserError(f"{where}: no file name; give it as {FILE_KEYS[0]!r}")
            file = self._find(given, where)
            if file in seen:
                raise UserError(f"{where}: {file!r} has captions twice; join them in one row, as a list")
            seen.add(file)
            yield file, pairs.read_fields(row, where)

    def _beside(self, names: Sequence[str]) -> Iterator[tuple[str, Fields]]:
        """Captions in files beside the images, and in the names of folders that have no such files."""
        captions: dict[str, dict[str, list[str]]] = {}
        for name in names:
            lines = texts.lines(texts.decode((self._folder / name).read_bytes(), str(self._folder / name)))
            of_file = pairs.sort_captions({"caption": lines})
            for image in self._with_stem(name) or [name]:
                pairs.join_captions(captions.setdefault(image, {}), of_file)
        yield from ((file, Fields(found)) for file, found in captions.items())
        with_files = {Path(file).parent for file in captions}
        named: dict[Path, int] = {}
        for file in self._images:
            folder = Path(file).parent
            caption = _REPEATED.fullmatch(folder.name or self._folder.resolve().name)
            if caption and folder not in with_files:
                named[folder] = named.get(folder, 0) + 1
                yield file, Fields(pairs.sort_captions({"caption": caption[2].replace("_", " ")}))
        for folder, count in named.items():
            logging.warning(
                "%s: the name of the folder is the caption of its %d images; each is one record, however often the "
                "number says to repeat it",
                *(self._folder / folder, count),
            )

    @functools.cached_property
    def _stems(self) -> Mapping[str, list[str]]:
        """Images by their name without suffix, for files beside them; also those in unsupported formats."""
        stems: dict[str, list[str]] = {}
        for file in self._images:
            stems.setdefault(_plain(str(Path(file).with_suffix(""))), []).append(file)
        for file in self._unread:
            stems.setdefault(_plain(str(Path(file).with_suffix(""))), [file])
        return stems

    def _with_stem(self, name: str) -> list[str]:
        return self._stems.get(_plain(str(Path(name).with_suffix(""))), [])

    @functools.cached_property
    def _spellings(self) -> Mapping[str, list[str]]:
        spellings: dict[str, list[str]] = {}
        for file in self._images:
            spellings.setdefault(_plain(file), []).append(file)
        return spellings

    def _find(self, given: str, where: str) -> str:
        """The image of a name in a table: by its exact name, or by the same name in another spelling; else `given`."""
        if given in self._images:
            return given
        root = f"{self._folder.absolute().as_posix()}/"
        found = self._spellings.get(_plain(given.removeprefix(root)), [given])
        if len(found) > 1:
            raise UserError(f"{where}: {given!r} may be {' or '.join(map(repr, found))}: write its name exactly")
        return found[0]

    def _undecodable(self) -> list[str]:
        def fails(path: Path) -> bool:
            try:
                pairs.image_size(path.read_bytes())
            except ValueError:
                return True
            return False

        return [file for file, path in self._images.items() if fails(path)]

    def image_of(self, place: str) -> tuple[str, bytes]:
        path = self._images[place]
        return str(path), path.read_bytes()

    def fingerprint(self) -> str:
        content = [
            [one.place, file_sha256(self._images[one.place]), one.captions, one.concept] for one in self._listed[0]
        ]
        objects = [one.objects for one in self._listed[0]]
        return digest({"content": content, "objects": objects, "options": [self.short_side, self.licence]})


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder. A folder that cannot be read is an error: `rglob` would skip it silently."""

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=refuse):
        if any(name.endswith(".array_record") for name in names):  # written by `prepare`
            folders.clear()
            continue
        yield from (Path(place) / name for name in names)


def _plain(name: str) -> str:
    """A path in one spelling: composed characters (macOS decomposes them), slashes, no "./"."""
    return os.path.normpath(unicodedata.normalize("NFC", name).replace("\\", "/"))
