"""A TensorFlow Datasets dataset with an image and a text feature, read without TensorFlow.

Random access needs the ArrayRecord format: prepare the dataset with `file_format="array_record"` (a name is prepared
so here). https://www.tensorflow.org/datasets/data_source
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ernie_vilg_jax.data.files import digest, file_sha256
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError, first_line
from ernie_vilg_jax.knowledge.words import LANGUAGES
from ernie_vilg_jax.preparation.sources import Licence, indices, pairs, ranges
from ernie_vilg_jax.preparation.sources.findings import Findings

_TEXT_FEATURES = ("caption", "captions", "text", "zh", "en")


@dataclasses.dataclass
class TfdsSource:
    """Options of the tfds source.

    Attributes:
      dataset: a TFDS name ("coco_captions"), or the folder that holds a prepared dataset's dataset_info.json.
      split: TFDS split, slices too ("train[:10%]").
      image: name of the image feature; a path such as "image/image" for nested ones.
      text: names of the text features, each a string or a sequence of strings; () = whichever of caption, captions,
        text, zh, en exist. Features named zh and en are in that language; others are detected by their characters.
      concept: feature with the unit that is held out together; "" = the first caption.
      short_side, licence: as in `pairs.PairSource`.
    """

    dataset: str = ""
    split: str = "train"
    image: str = "image"
    text: tuple[str, ...] = ()
    concept: str = ""
    short_side: int = 0
    licence: str = ""
    name: str = dataclasses.field(default="tfds", init=False)

    @functools.cached_property
    def _builder(self) -> Any:
        import tensorflow_datasets as tfds

        folder = Path(self.dataset).expanduser()
        try:
            if folder.is_dir():
                infos = sorted(folder.rglob("dataset_info.json"))
                if len(infos) != 1:
                    raise UserError(f"{folder} holds {len(infos)} dataset_info.json: give the folder of one version")
                return tfds.builder_from_directory(str(infos[0].parent))
            builder = tfds.builder(self.dataset, file_format="array_record")
            builder.download_and_prepare()
            return builder
        except UserError:
            raise
        except Exception as error:  # TFDS raises many types: not registered, no network, no TensorFlow, ...
            raise UserError(
                f"source 'tfds': dataset={self.dataset!r} cannot be opened "
                f"({first_line(error)}): give a TFDS name or a prepared folder"
            ) from error

    @functools.cached_property
    def _data(self) -> Any:
        import tensorflow_datasets as tfds

        features = self._builder.info.features
        if self.image.split("/")[0] not in features:
            raise UserError(f"source 'tfds': no feature {self.image!r} in {self.dataset}: it has {', '.join(features)}")
        decoders: Any = tfds.decode.SkipDecoding()  # the encoded bytes, as they are stored
        for part in reversed(self.image.split("/")):
            decoders = {part: decoders}
        try:
            return self._builder.as_data_source(self.split, decoders=decoders)
        except Exception as error:  # wrong split, wrong file format, ...
            raise UserError(
                f"source 'tfds': split {self.split!r} of {self.dataset} cannot be read ({first_line(error)})"
            ) from error

    @functools.cached_property
    def _texts(self) -> tuple[str, ...]:
        features = self._builder.info.features
        chosen = self.text or tuple(name for name in _TEXT_FEATURES if name in features)
        if not chosen or any(name.split("/")[0] not in features for name in chosen):
            raise UserError(
                f"source 'tfds': {self.dataset} lacks the text feature {', '.join(self.text) or 'caption or text'}: "
                f"set text= to some of {', '.join(features)}"
            )
        return chosen

    def _captions(self, index: int, example: Any) -> dict[str, list[str]]:
        captions: dict[str, list[str]] = {}
        try:
            for name in self._texts:
                key = name if name in LANGUAGES else "caption"
                for language, found in pairs.sort_captions({key: _strings(_nested(example, name))}).items():
                    captions.setdefault(language, []).extend(found)
        except ValueError as error:
            raise UserError(
                f"example {index} of {self.dataset}: its text cannot be used ({error}); leave it out with a split "
                "such as train[:N]"
            ) from error
        if not captions:
            raise UserError(f"example {index} of {self.dataset} has no caption in {', '.join(self._texts)}")
        return captions

    def _id(self, index: int) -> str:
        return f"{self.name}/{self._builder.info.name}/{self.split}/{index:08d}"

    def parts(self) -> Sequence[str]:
        return ranges(len(self._data))

    def place(self) -> str:
        return self.dataset

    def read(self, part: str, findings: Findings) -> Iterator[Record]:
        for index in indices(part):
            example = self._data[index]
            captions = self._captions(index, example)
            findings.captions(captions)
            given = "+".join(_strings(_nested(example, self.concept))) if self.concept else ""
            yield pairs.make_record(
                self.name,
                self._id(index),
                f"the image of example {index} of {self.dataset}",
                bytes(_nested(example, self.image)),
                captions,
                pairs.concept_of(self.name, given, captions),
                licence=self.licence,
                short_side=self.short_side,
                remedy="leave it out with a split such as train[:N]",
            )

    def fingerprint(self) -> str:
        info = self._builder.info
        base = self.split.split("[")[0]
        files = [Path(str(path)) for path in info.splits[base].filepaths]
        options = [self.split, self.image, self._texts, self.concept, self.short_side, self.licence]
        hashes = [[path.name, file_sha256(path)] for path in files]
        return digest({"name": info.full_name, "files": hashes, "options": options})

    def licences(self) -> list[Licence]:
        info = self._builder.info
        stated = self.licence or str(getattr(info, "license", None) or "see its page")
        return [Licence(info.full_name, stated, "", str(info.homepage or ""))]


def _nested(example: Any, path: str) -> Any:
    for part in path.split("/"):
        example = example[part]
    return example


def _strings(value: Any) -> list[str]:
    """Text features come as bytes, arrays of bytes or sequences of them; labels as integers."""
    if isinstance(value, bytes):
        return [value.decode()]
    if isinstance(value, str | int | np.integer):
        return [str(value)]
    return [text for item in value for text in _strings(item)]
