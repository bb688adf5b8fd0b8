"""All training data in the memory of the devices, where batches are drawn: for small data (`config.data.resident`).

    start:  records --worker processes--> images, tokens of all captions --encode--> tables on every device
    step:   numbers of records and captions [B], drawn by the process --gather--> latents and tokens [B, ...]

An accelerator trains a small model on tens of thousands of images a second, more than a process can decode; it can draw
as many numbers. As with the loader each record is seen once in an epoch, but in another order.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax.data.loader import all_examples
from ernie_vilg_jax.data.mixture import seed_for
from ernie_vilg_jax.data.sizes import sizes_of
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.data.whole import read_whole
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.knowledge.words import LANGUAGES
from ernie_vilg_jax.sharding import processes, rules
from ernie_vilg_jax.training.latents import Encoder
from ernie_vilg_jax.training.task import Batch

WORDS = ("tokens", "token_mask")
Tables = dict[str, jax.Array]
"""Arrays of the same length, on every device."""


class Resident:
    """Draws batches of tables that are on the devices.

    Args:
      records: "mean" and "log_variance" [N, h, w, c] of the posteriors over latents, or "image" [N, H, W, 3] uint8.
      captions: "tokens" [M, L] int32 and "token_mask" [M, L] bool: the empty caption, then those of all records.
      counts: [N, 2] captions of each record in each of LANGUAGES.
    """

    def __init__(self, config: ConfigDict, mesh: Mesh, records: Tables, captions: Tables, counts: np.ndarray) -> None:
        self.mesh, self.records, self.captions, self.counts = mesh, records, captions, counts
        self.seed, self.dropout = config.seed, float(config.train.caption_dropout)
        self.firsts = (1 + np.cumsum(counts) - counts.ravel()).reshape(counts.shape)
        language = config.data.language
        self.present = (counts > 0) & np.asarray([language in ("both", name) for name in LANGUAGES])
        if lacking := int((~self.present.any(1)).sum()):
            raise UserError(
                f"{lacking} records have no caption in --config.data.language={language}: set it to both, or prepare "
                "records that have one"
            )

    @functools.lru_cache(maxsize=2)  # noqa: B019 - there is one for the whole run
    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([seed_for(self.seed, "order"), epoch]).permutation(len(self.counts))

    def numbers(self, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Records and captions [size], rows of the tables, from example `start` of the endless stream on.

        Equal arguments give equal numbers. Which caption is drawn depends on `size`, too, which record does not.
        """
        total = len(self.counts)
        epochs, places = np.divmod(np.arange(start, start + size), total)
        records = np.empty(size, np.int64)
        for epoch in np.unique(epochs):
            records[epochs == epoch] = self._order(int(epoch))[places[epochs == epoch]]
        dropout, language, choice = np.random.default_rng([seed_for(self.seed, "draw"), start]).random((3, size))
        present = self.present[records]
        spoken = np.where(present.all(1), language >= 0.5, present[:, 1]).astype(int)
        captions = self.firsts[records, spoken] + (choice * self.counts[records, spoken]).astype(int)
        return records, np.where(dropout < self.dropout, 0, captions)

    def batches(self, start: int, size: int, rows: Sequence[int]) -> Iterator[tuple[Batch, np.ndarray]]:
        """Batches without end, from example `start` on, and the records [b] in this process's `rows` of each."""
        while True:
            records, captions = (numbers[list(rows)] for numbers in self.numbers(start, size))
            chosen = {"records": records.astype(np.int32), "captions": captions.astype(np.int32)}
            yield _take(self.records, self.captions, rules.to_devices(chosen, self.mesh, size)), records
            start += size


@jax.jit
def _take(records: Tables, captions: Tables, chosen: Batch) -> Batch:
    batch = {name: table[chosen["records"]] for name, table in records.items()}
    return rules.spread({**batch, **{name: table[chosen["captions"]] for name, table in captions.items()}})


def load_resident(
    config: ConfigDict, tokenizer: Tokenizer, mesh: Mesh, encoder: Encoder | None = None, autoencoder: Any = None
) -> Resident:
    """Reads the whole train split, in every process, and with `encoder` encodes it by `autoencoder`.

    Raises UserError if the config asks for what changes from epoch to epoch.
    """
    check_resident(config)
    (examples,) = all_examples(config, tokenizer, "train").by_size(sizes_of(config))
    records, counts, words = [], [], [tuple(array[None] for array in tokenizer.encode("")[:2])]
    for chunk in read_whole(examples.example, int(config.data.workers)):
        records += [(chunk.images,)] if encoder is None else _encoded(chunk.images, encoder, autoencoder)
        counts.append(chunk.counts)
        words.append((chunk.tokens, chunk.token_mask))
    tables = _table(("mean", "log_variance") if encoder else ("image",), records, mesh), _table(WORDS, words, mesh)
    size = sum(array.nbytes for table in tables for array in table.values()) / 2**20
    found = Resident(config, mesh, *tables, np.concatenate(counts))
    logging.info("%d images with their captions on the devices: %.0f MB on each", len(found.counts), size)
    return found


def _table(names: Sequence[str], parts: Sequence[tuple[np.ndarray, ...]], mesh: Mesh) -> Tables:
    columns = map(np.concatenate, zip(*parts, strict=True))
    return processes.to_all(dict(zip(names, columns, strict=True)), rules.replicated(mesh))


def _encoded(images: np.ndarray, encoder: Encoder, autoencoder: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """(means, log-variances) of pieces of the images."""
    own = list(processes.own_rows(rules.batch_sharding(encoder.mesh), encoder.piece))
    found = []
    for first in range(0, len(images), encoder.piece):
        piece = images[first : first + encoder.piece]
        padded = np.concatenate([piece, np.zeros((encoder.piece - len(piece), *piece.shape[1:]), np.uint8)])
        batch = rules.to_devices({"image": padded[own]}, encoder.mesh, encoder.piece)
        found.append((len(piece), encoder.posterior(autoencoder, batch["image"])))
    return [(moments.mean[:count], moments.log_variance[:count]) for count, moments in jax.device_get(found)]


def check_resident(config: ConfigDict) -> None:
    """Raises UserError if config.data.resident goes with nothing that changes from epoch to epoch."""
    if not config.data.resident:
        return
    against = {
        "knowledge.enabled": config.knowledge.enabled,
        "data.crop": config.data.crop != "center",
        "data.sizes": len(sizes_of(config)) > 1,
        "data.weights": bool(dict(config.data.weights or {})),
    }
    for field, changes in against.items():
        if changes:
            raise UserError(
                f"--config.data.resident keeps each image once and draws plain captions, so it does not go with "
                f"config.{field}={config[field.split('.')[0]][field.split('.')[1]]!r}"
            )
