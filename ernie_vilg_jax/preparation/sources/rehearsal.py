"""What a model is shown again while it is fine-tuned, so that it does not forget: its old data, or its own images."""

from __future__ import annotations

import dataclasses
import functools
import random

from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.data.manifests import read_manifest
from ernie_vilg_jax.data.records import Record, RecordSource, open_split
from ernie_vilg_jax.preparation.sources import Drawn, Licence
from ernie_vilg_jax.preparation.sources.folder import FolderSource


@dataclasses.dataclass
class SamplesSource(FolderSource):
    """Images that a model made, in a folder with captions as those of users have."""

    name: str = dataclasses.field(default="samples", init=False)


@dataclasses.dataclass
class RecordsSource(Drawn):
    """Records of other prepared data, of its split `train`.

    Attributes:
      path: prepared data.
      count: how many records are drawn, by `seed`.
    """

    path: str = ""
    count: int = 1000
    seed: int = 0
    name: str = dataclasses.field(default="records", init=False)

    @functools.cached_property
    def _records(self) -> RecordSource:
        return open_split(self.path, "train")

    @functools.cached_property
    def _chosen(self) -> list[int]:
        found = range(len(self._records))
        return sorted(random.Random(f"{self.seed}/records").sample(found, min(self.count, len(found))))

    @property
    def total(self) -> int:
        return len(self._chosen)

    def record(self, index: int) -> Record:
        place = self._chosen[index]
        record = self._records[place]
        # A concept of the old data is whole in its `train`; each record decides its split here anew.
        return dataclasses.replace(record, id=f"{self.name}/{record.id}", source=self.name, concept=f"record {place}")

    def fingerprint(self) -> str:
        return digest([read_manifest(self.path)["fingerprint"], self.count, self.seed])

    def licences(self) -> list[Licence]:
        found = [one for source in read_manifest(self.path)["sources"] for one in source.get("licences", ())]
        return [Licence(**one) for one in found]
