"""Encodes the images of one shard on this process's devices.

records -> grouped by source and size -> decoded and cropped in threads -> pieces over the devices -> records
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.data.groups import place_of
from ernie_vilg_jax.data.latents import DTYPES, Latents
from ernie_vilg_jax.data.mixture import seed_for
from ernie_vilg_jax.data.pixels import Viewer
from ernie_vilg_jax.data.records import Record, write_shard
from ernie_vilg_jax.data.sizes import Size
from ernie_vilg_jax.errors import UserError, first_line
from ernie_vilg_jax.images import Crop
from ernie_vilg_jax.model import Model
from ernie_vilg_jax.progress import Progress
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.training.latents import Encoder, piece_of


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the bytes of encoded data, beside the autoencoder and the input.

    Attributes:
      viewer: sizes of images, and whether crops are random.
      crops: number of them, of each image.
      smallest_side: images with a smaller side, in pixels, are left out.
      dtype: of the moments, one of `latents.DTYPES`.
      seed: decides random crops, together with the record's id.
    """

    viewer: Viewer
    crops: int
    smallest_side: int
    dtype: str
    seed: int

    def plain(self) -> dict[str, Any]:
        """As JSON; the fields that training compares have the names of `config.data`."""
        return {
            "sizes": [list(size) for size in self.viewer.sizes],
            "crop": "random" if self.viewer.random else "center",
            "crops": self.crops,
            "smallest_side": self.smallest_side,
            "dtype": self.dtype,
            "seed": self.seed,
        }


@dataclasses.dataclass(frozen=True)
class _Cut:
    """A record, and its crops: pixels [crops, H, W, 3] uint8."""

    record: Record
    whole: tuple[int, int]
    crops: Sequence[Crop]
    pixels: np.ndarray


class ShardEncoder:
    """Encodes shards, one after the other.

    Args:
      mesh: of this process's devices.
      autoencoder: {"params", "mean" [c], "std" [c]}, on all of them; the last two are not used.
      threads: that decode images.
    """

    def __init__(self, settings: Settings, model: Model, mesh: Mesh, autoencoder: Params, threads: int) -> None:
        self._settings, self._mesh, self._autoencoder, self._threads = settings, mesh, autoencoder, threads
        self._encoder = Encoder(model, mesh)
        self._name = ""

    def write(self, name: str, file: Path, target: Path, progress: Progress) -> dict[str, Any]:
        """Writes the encoded shard of `file` to `target`; returns its entry for the manifest.

        Beside the usual fields the entry has "sizes", [height, width, source, records] of each group in the order of
        the file, and "left_out", how many records were too small.
        """
        from grain import sources

        self._name = name
        groups: collections.Counter[tuple[int, int, str]] = collections.Counter()
        reader: Any = sources.ArrayRecordDataSource([str(file)])

        def counted() -> Iterator[Record]:
            for (source, place), positions in self._groups(reader).items():
                size = self._settings.viewer.sizes[place]
                for record in self._encoded(reader, positions, size):
                    groups[size.height, size.width, source] += 1
                    progress.made()
                    yield record

        entry = write_shard(target, counted())
        left_out = len(reader) - entry["records"]
        progress.made(left_out)
        return {**entry, "sizes": [[*group, count] for group, count in groups.items()], "left_out": left_out}

    def _groups(self, reader: Any) -> dict[tuple[str, int], list[int]]:
        """(source, place of the size) -> positions in the shard; the groups of a source are adjacent."""
        groups: dict[str, dict[int, list[int]]] = {}
        for position in range(len(reader)):
            record = self._record(reader, position)
            try:
                place = place_of(*record.size(), self._settings.viewer.sizes, self._settings.smallest_side)
            except ValueError as error:
                raise self._undecodable(record, position, error) from error
            if place >= 0:
                groups.setdefault(record.source, {}).setdefault(place, []).append(position)
        return {(source, place): found[place] for source, found in groups.items() for place in sorted(found)}

    def _record(self, reader: Any, position: int) -> Record:
        try:
            return Record.unpack(reader[position])
        except Exception as error:  # ValueError of unpack, or the reader's C++ errors
            raise UserError(
                f"shard {self._name} is corrupt at record {position} ({first_line(error)}): make it again with the "
                "command that made --input"
            ) from error

    def _undecodable(self, record: Record, position: int, error: Exception) -> UserError:
        return UserError(
            f"the image of record {record.id!r} (record {position} of {self._name}) cannot be decoded ({error}): "
            "fix or remove it in its source and prepare again"
        )

    def _encoded(self, reader: Any, positions: Sequence[int], size: Size) -> Iterator[Record]:
        """The records of one group, with latents in place of their images."""
        piece = piece_of(self._encoder.model, self._mesh, size.height * size.width)
        options = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=max(self._threads, 2 * piece))
        stream = grain.MapDataset.source(positions).map(lambda position: self._cut(reader, int(position)))
        waiting: collections.deque[_Cut] = collections.deque()

        def images() -> Iterator[np.ndarray]:
            for one in stream.to_iter_dataset(options):
                waiting.append(dataclasses.replace(one, pixels=one.pixels[:0]))
                yield from one.pixels

        moments = self._moments(images(), piece)
        for first in moments:
            found = [first, *itertools.islice(moments, self._settings.crops - 1)]
            one = waiting.popleft()
            for mean, log_variance in found:
                if not (np.isfinite(mean).all() and np.isfinite(log_variance).all()):
                    raise UserError(
                        f"the latents of record {one.record.id!r} are NaN or infinite: --checkpoint has a broken "
                        "autoencoder"
                    )
            latents = [
                Latents(crop, one.whole, mean, log_variance).pack()
                for crop, (mean, log_variance) in zip(one.crops, found, strict=True)
            ]
            yield dataclasses.replace(one.record, image=b"", latents=latents)

    def _cut(self, reader: Any, position: int) -> _Cut:
        record, viewer = self._record(reader, position), self._settings.viewer
        try:
            image = viewer.decode(record)
        except ValueError as error:
            raise self._undecodable(record, position, error) from error
        seed = seed_for(self._settings.seed, f"crop {record.id}")
        crops = [viewer.draw(image, np.random.default_rng([seed, number])) for number in range(self._settings.crops)]
        return _Cut(record, image.size, crops, np.stack([viewer.pixels(image, crop) for crop in crops]))

    def _moments(self, images: Iterator[np.ndarray], piece: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Mean and log-variance [h, w, c] of each image, in order.

        While the devices encode a piece, the next one is decoded. The last piece is filled up, so that a size is
        compiled once; pieces start anew in each group, so that a shard's bytes do not depend on what came before it.
        """
        dtype, before = DTYPES[self._settings.dtype], None
        while chunk := list(itertools.islice(images, piece)):
            batch = np.stack([*chunk, *[chunk[-1]] * (piece - len(chunk))])
            placed = jax.device_put(batch, rules.batch_sharding(self._mesh))
            now = self._encoder.posterior(self._autoencoder, placed), len(chunk)
            if before is not None:
                yield from _rows(*before, dtype)
            before = now
        if before is not None:
            yield from _rows(*before, dtype)


def _rows(posterior: Any, count: int, dtype: np.dtype[Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    mean, log_variance = (np.asarray(leaf).astype(dtype) for leaf in jax.device_get(posterior))
    yield from zip(mean[:count], log_variance[:count], strict=True)
