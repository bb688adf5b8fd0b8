"""Sources of examples. A source is cut into parts (a tar, some thousand records), and makes the records of a part.

Preparation goes through the parts in any order and in any process, and knows only what it reads: no list of all records
is ever made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from ernie_vilg_jax import registry
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.paths import is_url, local
from ernie_vilg_jax.preparation.sources.findings import Findings

PART = 4096
"""Records of a part, where the source has no natural ones."""
BUCKETS = ("tars", "parquet")
"""Sources that read files behind URLs."""


@dataclasses.dataclass(frozen=True)
class Licence:
    """A work that the records of a source contain, for LICENCES.md."""

    work: str
    licence: str
    author: str
    url: str


@runtime_checkable
class Source(Protocol):
    """A deterministic collection of records; equal options and inputs give equal records and an equal fingerprint."""

    name: str

    def parts(self) -> Sequence[str]:
        """Names of the parts, in a fixed order."""
        ...

    def read(self, part: str, findings: Findings) -> Iterator[Record]:
        """The records of a part, in a fixed order; what is left out or probably a mistake goes into `findings`."""
        ...

    def place(self) -> str:
        """Where the records come from, if `findings` are to be reported with it; "" for a source that draws them."""
        ...

    def fingerprint(self) -> str:
        """sha256 of the options and inputs that affect the records."""
        ...

    def licences(self) -> list[Licence]: ...


REGISTRY: dict[str, str] = {
    "emoji": "ernie_vilg_jax.preparation.sources.emoji:EmojiSource",
    "scenes": "ernie_vilg_jax.preparation.sources.scenes:SceneSource",
    "distracted": "ernie_vilg_jax.preparation.sources.distracted:DistractedSource",
    "composed": "ernie_vilg_jax.preparation.sources.composed.source:ComposedSource",
    "folder": "ernie_vilg_jax.preparation.sources.folder:FolderSource",
    "tars": "ernie_vilg_jax.preparation.sources.tars:TarSource",
    "parquet": "ernie_vilg_jax.preparation.sources.parquet:ParquetSource",
    "tfds": "ernie_vilg_jax.preparation.sources.tfds:TfdsSource",
    "samples": "ernie_vilg_jax.preparation.sources.rehearsal:SamplesSource",
    "records": "ernie_vilg_jax.preparation.sources.rehearsal:RecordsSource",
}
"""Source name -> "module:class", imported when used. The class takes the options of the config as keywords."""


def make_source(options: Mapping[str, Any], *, size: int) -> Source:
    """Builds the source that a config entry names.

    Args:
      options: `name` and the options of that source.
      size: pixels per side for sources that render, unless `options` holds its own `size`.
    """
    settings: dict[str, Any] = {
        option: tuple(value) if isinstance(value, list) else value for option, value in options.items()
    }
    name = settings.pop("name", None)
    for option in {"path", "dataset"} & settings.keys():  # other options may be the URL of a licence
        if not (name in BUCKETS and is_url(settings[option])):
            local(settings[option], f"config.data.sources.{name}.{option}")
    return registry.build("config.data.sources: source", REGISTRY, name, settings, {"size": size})


class Drawn:
    """A source of `count` records, each drawn from its index alone by `record`."""

    name: str

    @property
    def total(self) -> int:
        raise NotImplementedError

    def record(self, index: int) -> Record:
        raise NotImplementedError

    def check_known(self, option: str, given: Sequence[str], known: Sequence[str] | Mapping[str, Any]) -> None:
        """Raises UserError if an option names something that is not among those `known`."""
        if unknown := [name for name in given if name not in known]:
            raise UserError(f"source {self.name!r}: {option} has no {unknown[0]!r}: choose from {', '.join(known)}")

    def parts(self) -> Sequence[str]:
        return ranges(self.total)

    def read(self, part: str, findings: Findings) -> Iterator[Record]:
        del findings
        return map(self.record, indices(part))

    def place(self) -> str:
        return ""


def ranges(count: int) -> list[str]:
    """Names of parts of `PART` records: "0-4096", ..."""
    return [f"{start}-{min(start + PART, count)}" for start in range(0, count, PART)]


def indices(part: str) -> range:
    start, stop = part.split("-")
    return range(int(start), int(stop))
