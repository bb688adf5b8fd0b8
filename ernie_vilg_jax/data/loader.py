"""Batches from prepared records, through Grain.

    positions -> shuffle (again in each epoch) -> read, decode, crop, caption, tokenise -> repeat -> own rows -> batch

Threads make the examples of a batch in parallel: Pillow decodes and resizes without Python's lock.
The stream is defined globally and each process reads its rows of every global batch (`ProcessRows`), so the examples of
step k are the same for any number of processes, and each record is seen exactly once per epoch. With a finite number of
epochs, training drops the last, incomplete batch; evaluation keeps it. With several sizes (`config.data.sizes`) each
batch has one, in proportion to their records, and each size is a stream of its own.
Randomness (caption, dropout, crop, knowledge) is drawn from (seed, position in the global stream), so it is the same
for any number of workers and after a restart.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from ml_collections import ConfigDict

from ernie_vilg_jax.config import default_config, differing, flat, plain
from ernie_vilg_jax.data.examples import ExampleMaker
from ernie_vilg_jax.data.mixture import endless, seed_for
from ernie_vilg_jax.data.order import ProcessRows
from ernie_vilg_jax.data.pixels import Viewer
from ernie_vilg_jax.data.records import RecordSource, open_split, read_manifest
from ernie_vilg_jax.data.sizes import Size, nearest, sizes_of, smallest_side
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.knowledge.words import LANGUAGES

Batch = dict[str, np.ndarray]
"""image [B, H, W, 3] uint8, or if the data were encoded mean and log_variance [B, h, w, c], of the posterior over its
latents; tokens [B, L] int32; token_mask [B, L] bool;
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
    check_encoding(config, manifest)
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


def check_encoding(config: ConfigDict, manifest: Mapping[str, Any]) -> None:
    """Raises UserError for invalid sizes, and if the data hold latents, but of other images than the config wants."""
    wanted = {
        "sizes": [list(size) for size in sizes_of(config)],
        "smallest_side": smallest_side(config),
        "crop": config.data.get("crop", "center"),
    }
    encoding = manifest.get("encoding")
    if encoding is None:
        return
    path = config.data.path
    if config.get("phase") == "autoencoder":
        raise UserError(
            f"{path} holds latents that `encode` made, and an autoencoder is trained on images: give the data that "
            "were encoded"
        )
    for name, (found, value) in differing(encoding["settings"], wanted, wanted).items():
        raise UserError(
            f"{path} was encoded with {name}={plain(found)}, the config says {value}: encode again into a new "
            f"directory, or set {flag_for(name, found)}"
        )


def flag_for(name: str, value: Any) -> str:
    """The flag that gives a config what data were encoded with."""
    if name != "sizes":
        return f"--config.data.{name}={value}"
    if len(value) == 1 and value[0][0] == value[0][1]:
        return f"--config.model.image_size={value[0][0]} without sizes"
    return f"--config.data.sizes='{tuple(map(tuple, value))}'"


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
    if train and epochs is None:
        stream = endless(config, example, seed, batch_size)
        if len(example.viewer.sizes) > 1:
            start -= start % batch_size  # only if another batch size was trained before
    else:
        positions = grain.MapDataset.range(len(example.source))
        stream = positions.shuffle(seed=seed_for(seed, "order")) if train else positions
        stream = stream.random_map(example, seed=seed_for(seed, "draw")).repeat(epochs)
    stream = stream[start:]
    if train and len(stream) < batch_size:
        raise UserError(
            f"split {split!r} of {config.data.path} has {len(example.source)} records: fewer than one batch of "
            f"{batch_size}; lower batch_size"
        )
    if rows is not None:
        stream = ProcessRows(stream, batch_size, rows)
    size = batch_size if rows is None else len(rows)
    threads = threads_of(config)
    workers = int(config.data.workers) if workers is None else workers
    # Examples, not batches, are made in parallel: while the accelerator is busy, up to two batches are made ahead.
    ahead = -(-2 * size // max(workers, 1))
    loader = stream.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(ahead, threads)))
    if workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():  # grain's workers read absl flags; notebooks never parse any
            flags.FLAGS.mark_as_parsed()
        loader = loader.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2))
    return loader.batch(size, drop_remainder=train)


def threads_of(config: ConfigDict) -> int:
    """Threads that make examples. Raises UserError if there is none."""
    threads = int(config.data.get("threads", default_config().data.threads))
    if threads < 1:
        raise UserError(f"--config.data.threads={threads} must be at least 1")
    return threads


def fixed_examples(config: ConfigDict, tokenizer: Tokenizer, split: str, n: int, seed: int) -> FixedExamples:
    """The same `n` examples at every call (fewer when the split is smaller), for validation and statistics.

    Random positions of the split; no caption dropout, alternating languages (for "both"), captions drawn by seed.
    """
    example = _example(config, tokenizer, split, train=False)
    draw = random.Random(f"{seed}/fixed")
    chosen = draw.sample(range(len(example.source)), min(n, len(example.source)))
    return FixedExamples(example, chosen, seed, threads_of(config))


def fixed_of_source(
    config: ConfigDict, tokenizer: Tokenizer, split: str, source: str, n: int, seed: int
) -> FixedExamples:
    """`fixed_examples` of one source in the data, exactly `n` of them: a small source is repeated, none gives none."""
    example = _example(config, tokenizer, split, train=False)
    spans = example.source.positions.get(source, [])
    positions = [position for start, stop in spans for position in range(start, stop)]
    random.Random(f"{seed}/fixed").shuffle(positions)
    return FixedExamples(example, (positions * -(-n // max(1, len(positions))))[:n], seed, threads_of(config))


def all_examples(config: ConfigDict, tokenizer: Tokenizer, split: str) -> FixedExamples:
    """Every record of the split, in its order."""
    example = _example(config, tokenizer, split, train=False)
    return FixedExamples(example, range(len(example.source)), 0, threads_of(config))


@dataclasses.dataclass(frozen=True)
class FixedExamples(Sequence[Batch]):
    """Examples without the leading axis of a batch; each is read and decoded on access, those of a batch in threads."""

    example: ExampleMaker
    chosen: Sequence[int]
    seed: int
    threads: int

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, place: Any) -> Any:
        index, example = self.chosen[place], self.example
        turn = dataclasses.replace(example, language=LANGUAGES[place % 2]) if example.language == "both" else example
        if not example.source[index].captions.get(turn.language):
            turn = example
        return turn(index, np.random.default_rng([seed_for(self.seed, "caption"), index]))

    def by_size(self, sizes: Sequence[Size]) -> list[FixedExamples]:
        """These examples as images of `sizes` in place of squares: a part for each size that any of them has."""
        parts: dict[Size, list[int]] = {size: [] for size in sizes}
        for index in self.chosen:
            place = nearest(sizes, *self.example.source[index].size()) if len(sizes) > 1 else 0
            parts[sizes[place]].append(index)
        of = lambda size: dataclasses.replace(self.example, viewer=Viewer((size,), random=False))  # noqa: E731
        found = [FixedExamples(of(size), part, self.seed, self.threads) for size, part in parts.items() if part]
        return found or [self]

    def batches(self, size: int, rows: Sequence[int] | None = None) -> Iterator[Batch]:
        """All of them in batches of `size`, of which only `rows` (default: all) are read.

        The last is padded with the first examples; "valid" [b] bool is False for padding.
        """
        with concurrent.futures.ThreadPoolExecutor(self.threads) as pool:
            for start in range(0, len(self), size):
                places = [start + row for row in (range(size) if rows is None else rows)]
                examples = list(pool.map(lambda place: self[place % len(self)], places))
                batch = {name: np.stack([one[name] for one in examples]) for name in examples[0]}
                yield {**batch, "valid": np.asarray([place < len(self) for place in places])}


def record_id(source: RecordSource, index: int) -> str:
    """The id of a batch's `index` entry, e.g. to name the records of a batch whose loss is not finite."""
    return source[int(index)].id
