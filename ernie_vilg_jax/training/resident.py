"""All training data in the memory of the devices, where batches are drawn: for small data (`config.data.resident`).

    start:  records --worker processes--> images, tokens of all captions --encode--> tables on every device
    step:   numbers of records and captions [B], drawn by the process --gather--> latents and tokens [B, ...]

An accelerator trains a small model on tens of thousands of images a second, more than a process can decode; it can draw
as many numbers. As with the loader each record is seen once in an epoch, but in another order.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

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
from ernie_vilg_jax.model import Model
from ernie_vilg_jax.sharding import processes, rules
from ernie_vilg_jax.training.latents import Encoder
from ernie_vilg_jax.training.task import Batch


class Tables(NamedTuple):
    """Arrays on every device.

    Attributes:
      mean, log_variance: [N, h, w, c], of the posteriors over the latents of the records.
      tokens: [M, L] int32, token_mask: [M, L] bool, of all captions of all records; the first is the empty caption.
    """

    mean: jax.Array
    log_variance: jax.Array
    tokens: jax.Array
    token_mask: jax.Array


class Resident:
    """Draws batches of tables that are on the devices.

    Args:
      counts: [N, 2] captions of each record in each of LANGUAGES; the tables have them record by record.
    """

    def __init__(self, config: ConfigDict, mesh: Mesh, tables: Tables, counts: np.ndarray) -> None:
        self.mesh, self.tables, self.counts = mesh, tables, counts
        self.seed, self.dropout = config.seed, float(config.train.caption_dropout)
        self.firsts = (1 + np.cumsum(counts) - counts.ravel()).reshape(counts.shape)
        language = config.data.language
        self.present = (counts > 0) & np.asarray([language in ("both", name) for name in LANGUAGES])
        if lacking := int((~self.present.any(1)).sum()):
            raise UserError(
                f"{lacking} records have no caption in --config.data.language={language}: set it to both, or prepare "
                "records that have one"
            )

    def numbers(self, start: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Records and captions [size], rows of the tables, from example `start` of the endless stream on.

        Equal arguments give equal numbers. Which caption is drawn depends on `size`, too, which record does not.
        """
        total = len(self.counts)
        epochs, places = np.divmod(np.arange(start, start + size), total)
        records = np.empty(size, np.int64)
        for epoch in np.unique(epochs):
            order = np.random.default_rng([seed_for(self.seed, "order"), epoch]).permutation(total)
            records[epochs == epoch] = order[places[epochs == epoch]]
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
            yield _take(self.tables, rules.to_devices(chosen, self.mesh, size)), records
            start += size


@jax.jit
def _take(tables: Tables, chosen: Batch) -> Batch:
    records, captions = chosen["records"], chosen["captions"]
    batch = {"mean": tables.mean[records], "log_variance": tables.log_variance[records]}
    return rules.spread({**batch, "tokens": tables.tokens[captions], "token_mask": tables.token_mask[captions]})


def load_resident(config: ConfigDict, tokenizer: Tokenizer, model: Model, autoencoder: Any, mesh: Mesh) -> Resident:
    """Reads and encodes the whole train split; every process reads all of it. Raises UserError if it can't be held."""
    check_resident(config)
    (examples,) = all_examples(config, tokenizer, "train").by_size(sizes_of(config))
    encoder, whole = Encoder(model, mesh), rules.replicated(mesh)
    own = list(processes.own_rows(rules.batch_sharding(mesh), encoder.piece))
    posteriors, counts, words = [], [], [tuple(array[None] for array in tokenizer.encode("")[:2])]
    for chunk in read_whole(examples.example, int(config.data.workers)):
        for first in range(0, len(chunk.images), encoder.piece):
            piece = chunk.images[first : first + encoder.piece]
            padded = np.concatenate([piece, np.zeros((encoder.piece - len(piece), *piece.shape[1:]), np.uint8)])
            images = rules.to_devices({"image": padded[own]}, mesh, encoder.piece)["image"]
            # The processes read more images while the devices encode these.
            posteriors[-1:] = jax.device_get(posteriors[-1:])
            found = encoder.posterior(autoencoder, images)
            posteriors.append((found.mean[: len(piece)], found.log_variance[: len(piece)]))
        counts.append(chunk.counts)
        words.append((chunk.tokens, chunk.token_mask))
    columns = (*zip(*jax.device_get(posteriors), strict=True), *zip(*words, strict=True))
    tables = processes.to_all(Tables(*map(np.concatenate, columns)), whole)
    size = sum(table.nbytes for table in tables) / 2**20
    logging.info(
        "%d images and %d captions on the devices: %.0f MB on each", len(tables.mean), len(tables.tokens) - 1, size
    )
    return Resident(config, mesh, tables, np.concatenate(counts))


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
