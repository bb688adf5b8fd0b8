"""Batches from prepared records, through Grain.

    positions -> shuffle (again in each epoch) -> read, decode, crop, caption, tokenise -> repeat -> own rows -> batch

The stream is defined globally and each process reads its rows of every global batch (`ProcessRows`), so the examples of
step k are the same for any number of processes, and each record is seen exactly once per epoch. With a finite number of
epochs, training drops the last, incomplete batch; evaluation keeps it.
Randomness (caption, dropout, crop, knowledge) is drawn from (seed, position in the global stream), so it is the same
for any number of workers and after a restart.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from ml_collections import ConfigDict

from ernie_vilg_jax.config import differing, flat, plain
from ernie_vilg_jax.data.examples import ExampleMaker
from ernie_vilg_jax.data.records import RecordSource, open_split, read_manifest
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.knowledge.words import LANGUAGES

Batch = dict[str, np.ndarray]
"""image [B, H, W, 3] uint8; tokens [B, L] int32; token_mask [B, L] bool;
token_weight [B, L] float32, on the attention to each token, and loss_weight [B, h, w] float32, on the loss of each
position of the latents: 1 without emphasis;
index [B] int64, the record's position in its split (`record_id` names it)."""


def check_data(config: ConfigDict) -> None:
    """Raises UserError unless `config.data.path` was prepared with the settings of this config."""
    if not config.data.path:
        raise UserError(
            "config.data.path is empty: run `python -m ernie_vilg_jax.prepare --config=... --output=DIR` first, "
            "then pass --config.data.path=DIR"
        )
    manifest = read_manifest(config.data.path)
    if manifest.get("own_data") or not config.data.sources:
        return  # prepared from other sources on purpose, or the config does not name any
    for name, (found, wanted) in differing(_flat(manifest["settings"]), _wanted(config, manifest)).items():
        raise UserError(
            f"{config.data.path} was prepared with {name}={found!r}, the config says {wanted!r}: prepare again into a "
            "new directory, or change the config"
        )


def _wanted(config: ConfigDict, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's settings if this config had been prepared.

    An option that the config leaves out has the source's default, which is in the manifest. Data of version 0.1 lack
    defaults; there it may have any value.
    """
    found = {source["name"]: source for source in manifest["settings"]["sources"]}
    sources = []
    for options in map(plain, config.data.sources):
        name = options["name"]
        defaults = manifest.get("source_defaults", {}).get(name, found.get(name, {}))
        size = {"size": config.model.image_size} if "size" in found.get(name, {}) else {}
        # An empty list stands for a source's default.
        given = {option: value for option, value in options.items() if value != []}
        sources.append({**defaults, **size, **given})
    return _flat({"sources": sources, "holdout_fraction": float(config.data.holdout_fraction)})


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    return flat({**settings, "sources": {source["name"]: source for source in settings["sources"]}}, "data.")


def _example(config: ConfigDict, tokenizer: Tokenizer, split: str, *, train: bool) -> ExampleMaker:
    check_data(config)
    source = open_split(config.data.path, split, verify=config.data.get("verify_shards", True))
    maker = ExampleMaker.of(config, tokenizer, source, train=train)
    if maker.knowledge is not None and "annotation" not in read_manifest(config.data.path):
        raise UserError(
            f"config.knowledge.enabled needs words and objects, and {config.data.path} was not annotated: run "
            f"`python -m ernie_vilg_jax.annotate --input={config.data.path} --output=DIR` and train on DIR, or set "
            "--config.knowledge.enabled=False"
        )
    return maker


def make_loader(
    config: ConfigDict,
    tokenizer: Tokenizer,
    *,
    split: str = "train",
    batch_size: int,
    rows: Sequence[int] | None = None,
    start: int = 0,
    seed: int,
    epochs: int | None = None,
    workers: int | None = None,
    train: bool = True,
) -> Any:
    """An iterable of `Batch` (a `grain.IterDataset`); `iter(loader)` has get_state and set_state.

    Args:
      config: `data.*`, `model.image_size`, `train.caption_dropout`.
      tokenizer: see `tokenizers.load_tokenizer`.
      split: "train" or "holdout".
      batch_size: examples per batch of all processes together.
      rows: which rows of each batch this process reads; None = all.
      start: number of examples of the stream to skip, because they were seen before.
      seed: decides order, captions and dropout.
      epochs: None = without end.
      workers: worker processes; None = `config.data.workers`. An iterator's state fits the same count only.
      train: shuffle, drop captions, drop the last incomplete batch. Otherwise: stored order, no dropout, all batches.
    """
    example = _example(config, tokenizer, split, train=train)
    weights = _weights(config, example.source)
    if train and weights and epochs is None:
        stream = _weighted(example, weights, seed)
    else:
        positions = grain.MapDataset.range(len(example.source))
        stream = positions.shuffle(seed=_seed32(seed, "order")) if train else positions
        stream = stream.random_map(example, seed=_seed32(seed, "draw")).repeat(epochs)
    stream = stream[start:]
    if rows is not None:
        stream = ProcessRows(stream, batch_size, rows)
    stream = stream.batch(batch_size if rows is None else len(rows), drop_remainder=train)
    if train and len(stream) == 0:
        raise UserError(
            f"split {split!r} of {config.data.path} has {len(example.source)} records: fewer than one batch of "
            f"{batch_size}; lower batch_size"
        )
    # A batch is one element here: two threads decode the next batches while the accelerator is busy.
    loader = stream.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    workers = int(config.data.workers) if workers is None else workers
    if workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():  # grain's workers read absl flags; notebooks never parse any
            flags.FLAGS.mark_as_parsed()
        loader = loader.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2))
    return loader


class ProcessRows(grain.MapDataset[Batch]):
    """The rows of every global batch that a process reads, with random access to the stream.

        stream   0 1 2 3 | 4 5 6 7 | 8 9 ...      global batches of 4
        rows (2, 3)  2 3 |     6 7 |              the process of the last two; only these are read and decoded

    These are elements `k * batch_size + row` of `parent`, for k = 0, 1, ... and each of `rows`, of whole batches only.
    So the k-th batch has the same images in the same rows for any number of processes. Processes that hold copies of
    the same rows (a mesh axis `tensor` between them) read the same.
    """

    def __init__(self, parent: Any, batch_size: int, rows: Sequence[int]) -> None:
        super().__init__(parent)
        assert all(0 <= row < batch_size for row in rows), (rows, batch_size)
        self._batch_size, self._rows = batch_size, tuple(rows)

    def __len__(self) -> int:
        return len(self._parent) // self._batch_size * len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        batch, place = divmod(index, len(self._rows))
        return self._parent[batch * self._batch_size + self._rows[place]]


def _weights(config: Any, source: RecordSource) -> dict[str, float]:
    """`config.data.weights`, without those of the config's own sources if the data has other sources."""
    weights = {name: float(weight) for name, weight in dict(config.data.weights or {}).items()}
    if read_manifest(config.data.path).get("own_data"):
        return {name: weight for name, weight in weights.items() if name in source.positions}
    return weights


def _weighted(example: ExampleMaker, weights: Mapping[str, float], seed: int) -> Any:
    """An endless mixture: each source shuffled and repeated on its own, drawn in proportion to its weight."""
    ranges = example.source.positions
    if unknown := sorted(set(weights) - set(ranges)):
        raise UserError(f"config.data.weights names {unknown[0]!r}, which is not in the data: {sorted(ranges)}")
    streams, proportions = [], []
    for name, spans in ranges.items():
        weight = weights.get(name, 0.0)
        if weight > 0:
            positions: Any = np.concatenate([np.arange(start, stop) for start, stop in spans])
            stream = grain.MapDataset.source(positions).shuffle(seed=_seed32(seed, f"order {name}"))
            streams.append(stream.random_map(example, seed=_seed32(seed, f"draw {name}")).repeat())
            proportions.append(weight)
    if not streams:
        raise UserError("config.data.weights are all zero: give at least one source a positive weight")
    return grain.MapDataset.mix(streams, weights=proportions) if len(streams) > 1 else streams[0]


def _seed32(seed: int, purpose: str) -> int:
    """A seed in [0, 2**32) for one purpose, so that order and draws are independent."""
    return random.Random(f"{seed}/{purpose}").getrandbits(32)


def fixed_examples(config: ConfigDict, tokenizer: Tokenizer, split: str, n: int, seed: int) -> FixedExamples:
    """The same `n` examples at every call (fewer when the split is smaller), for validation and statistics.

    Random positions of the split; no caption dropout, alternating languages (for "both"), captions drawn by seed.
    """
    example = _example(config, tokenizer, split, train=False)
    draw = random.Random(f"{seed}/fixed")
    chosen = draw.sample(range(len(example.source)), min(n, len(example.source)))
    return FixedExamples(example, chosen, seed)


def fixed_of_source(
    config: ConfigDict, tokenizer: Tokenizer, split: str, source: str, n: int, seed: int
) -> FixedExamples:
    """`fixed_examples` of one source in the data, exactly `n` of them: a small source is repeated, none gives none."""
    example = _example(config, tokenizer, split, train=False)
    spans = example.source.positions.get(source, [])
    positions = [position for start, stop in spans for position in range(start, stop)]
    random.Random(f"{seed}/fixed").shuffle(positions)
    return FixedExamples(example, (positions * -(-n // max(1, len(positions))))[:n], seed)


def all_examples(config: ConfigDict, tokenizer: Tokenizer, split: str) -> FixedExamples:
    """Every record of the split, in its order."""
    example = _example(config, tokenizer, split, train=False)
    return FixedExamples(example, range(len(example.source)), seed=0)


@dataclasses.dataclass(frozen=True)
class FixedExamples(Sequence[Batch]):
    """Examples without the leading axis of a batch; each is read and decoded on access."""

    example: ExampleMaker
    chosen: Sequence[int]
    seed: int

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, place: Any) -> Any:
        index, example = self.chosen[place], self.example
        turn = dataclasses.replace(example, language=LANGUAGES[place % 2]) if example.language == "both" else example
        if not example.source[index].captions.get(turn.language):
            turn = example
        return turn(index, np.random.default_rng([_seed32(self.seed, "caption"), index]))

    def batches(self, size: int, rows: Sequence[int] | None = None) -> Iterator[Batch]:
        """All of them in batches of `size`, of which only `rows` (default: all) are read.

        The last is padded with the first examples; "valid" [b] bool is False for padding.
        """
        for start in range(0, len(self), size):
            places = [start + row for row in (range(size) if rows is None else rows)]
            examples = [self[place % len(self)] for place in places]
            batch = {name: np.stack([one[name] for one in examples]) for name in examples[0]}
            yield {**batch, "valid": np.asarray([place < len(self) for place in places])}


def record_id(source: RecordSource, index: int) -> str:
    """The id of a batch's `index` entry, e.g. to name the records of a batch whose loss is not finite."""
    return source[int(index)].id
