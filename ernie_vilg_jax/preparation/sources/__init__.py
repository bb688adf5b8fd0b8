"""Sources of examples. A source lists its records cheaply (`keys`) and makes each on demand (`record`).

So preparation can decide split and shard of every record before any image is rendered, build each shard independently,
and redo only unfinished ones after a kill.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from ernie_vilg_jax import registry
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.paths import local


@dataclasses.dataclass(frozen=True)
class Key:
    """The part of a record known before it is made: its id, and the concept that decides its split (see `Record`)."""

    id: str
    concept: str


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

    def keys(self) -> Sequence[Key]:
        """Every record's id and concept, in a fixed order, without making images."""
        ...

    def record(self, index: int) -> Record:
        """The record of `keys()[index]`."""
        ...

    def fingerprint(self) -> str:
        """sha256 of the options and inputs that affect the records."""
        ...

    def licences(self) -> list[Licence]: ...


REGISTRY: dict[str, str] = {
    "emoji": "ernie_vilg_jax.preparation.sources.emoji:EmojiSource",
    "scenes": "ernie_vilg_jax.preparation.sources.scenes:SceneSource",
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
        local(settings[option], f"config.data.sources.{name}.{option}")
    return registry.build("config.data.sources: source", REGISTRY, name, settings, {"size": size})
