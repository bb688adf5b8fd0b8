"""Batches from prepared records, through Grain.

    positions -> shuffle (anew each epoch) -> read, decode, crop, caption, tokenise -> repeat -> take turns -> batch

The stream is defined globally and hosts take turns, so the examples of step k are the same for any number of hosts with
the same global batch, and within an epoch each record is seen exactly once by exactly one host. With a finite number of
epochs `drop_remainder` leaves out the last, incomplete batch of each host (training); evaluation keeps it.
Randomness (caption, dropout, crop) is drawn from (seed, position in the global stream): equal for every worker count.
"""

from __future__ import annotations

import dataclasses
import io
import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from ernie_vilg_jax.data.preparation import source_settings
from ernie_vilg_jax.data.records import LANGUAGES, Record, RecordSource, open_split, read_manifest
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.errors import UserError

Batch = dict[str, np.ndarray]
"""image [B, H, W, 3] float32 in [-1, 1]; tokens [B, L] int32; token_mask [B, L] bool; token_weight [B, L] float32;
index [B] int64, the record's position in its split (`record_id` names it)."""


def decode_image(data: bytes) -> Any:
    """Encoded bytes -> Pillow RGB image, turned upright, transparency laid on white. ValueError if undecodable."""
    from PIL import Image, ImageOps

    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        if image.mode == "RGB":
            image.load()
            return image
        image = image.convert("RGBA")
    except Exception as error:  # Pillow raises many types on damaged files
        raise ValueError(str(error) or type(error).__name__) from error
    ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(ground, image).convert("RGB")


def fit_square(image: Any, size: int, rng: np.random.Generator | None) -> np.ndarray:
    """Resizes the shorter side to `size` and crops a square: the centre, or with `rng` a random one of up to 15% zoom.

    Returns:
      [size, size, 3] float32 in [-1, 1].
    """
    from PIL import Image

    width, height = image.size
    zoom = 1.0 if rng is None else float(rng.uniform(1.0, 1.15))
    side = min(width, height) / zoom
    x, y = (0.5, 0.5) if rng is None else (float(rng.random()), float(rng.random()))
    left, top = (width - side) * x, (height - side) * y
    if (width, height) != (size, size) or rng is not None:
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    return np.asarray(image, np.float32) / 127.5 - 1.0


@dataclasses.dataclass(frozen=True)
class _Example:
    """Position -> example. A callable object, so that worker processes can unpickle it."""

    source: RecordSource
    tokenizer: Tokenizer
    size: int
    language: str
    caption_dropout: float
    crop: str

    def __call__(self, position: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        index = int(position)
        record = self.source[index]
        caption = self.caption(record, rng)
        return self.make(index, record, caption, rng if self.crop == "random" else None)

    def caption(self, record: Record, rng: np.random.Generator) -> str:
        # Always three draws, so that one record's captions do not move another option's randomness.
        dropout, language, choice = rng.random(3)
        if dropout < self.caption_dropout:
            return ""
        wanted = LANGUAGES if self.language == "both" else (self.language,)
        present = [name for name in wanted if record.captions.get(name)]
        if not present:
            raise UserError(
                f"record {record.id!r} has no caption in {' or '.join(wanted)}: set --config.data.language=both, "
                "or prepare records that have one"
            )
        alternatives = record.captions[present[int(language * len(present))]]
        return alternatives[int(choice * len(alternatives))]

    def make(self, index: int, record: Record, caption: str, rng: np.random.Generator | None) -> dict[str, np.ndarray]:
        try:
            image = fit_square(decode_image(record.image), self.size, rng)
        except ValueError as error:
            shard, position = self.source.locate(index)
            raise UserError(
                f"the image of record {record.id!r} (record {position} of {shard}) cannot be decoded ({error}): "
                "mend or remove it in its source and prepare again"
            ) from error
        tokens, mask, _ = self.tokenizer.encode(caption)
        return {
            "image": image,
            "tokens": tokens,
            "token_mask": mask,
            "token_weight": np.ones(tokens.shape, np.float32),
            "index": np.int64(index),  # type: ignore[dict-item]
        }


def check_data(config: Any) -> None:
    """Raises UserError unless `config.data.path` was prepared with the settings of this config."""
    if not config.data.path:
        raise UserError(
            "config.data.path is empty: run `python -m ernie_vilg_jax.prepare --config=... --output=DIR` first, "
            "then pass --config.data.path=DIR"
        )
    manifest = read_manifest(config.data.path)
    if manifest.get("own_data") or not config.data.sources:
        return  # chosen for its own sake, or no statement about where the data comes from
    wanted, found = _flat(source_settings(config)), _flat(manifest["settings"])
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise UserError(
                f"{config.data.path} was prepared with {name}={found.get(name)!r}, the config says "
                f"{wanted.get(name)!r}: prepare again into a new directory, or mend the config"
            )


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat = {f"data.{name}": value for name, value in settings.items() if name != "sources"}
    for source in settings["sources"]:
        flat |= {f"data.sources.{source['name']}.{option}": value for option, value in source.items()}
    return flat


def _example(config: Any, tokenizer: Tokenizer, split: str, *, train: bool) -> _Example:
    check_data(config)
    if config.data.language not in (*LANGUAGES, "both"):
        raise UserError(f"config.data.language={config.data.language!r} must be 'zh', 'en' or 'both'")
    crop = config.data.get("crop", "center")
    if crop not in ("center", "random"):
        raise UserError(f"config.data.crop={crop!r} must be 'center' or 'random'")
    return _Example(
        source=open_split(config.data.path, split),
        tokenizer=tokenizer,
        size=int(config.model.image_size),
        language=config.data.language,
        caption_dropout=float(config.train.caption_dropout) if train else 0.0,
        crop=crop if train else "center",
    )


def make_loader(
    config: Any,
    tokenizer: Tokenizer,
    *,
    split: str = "train",
    batch_size: int,
    host: int = 0,
    hosts: int = 1,
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
      batch_size: examples per batch of this host.
      host, hosts: this process and how many there are.
      seed: decides order, captions and dropout.
      epochs: None = without end.
      workers: worker processes; None = `config.data.workers`. An iterator's state fits the same count only.
      train: shuffle, drop captions, drop the last incomplete batch. Otherwise: stored order, no dropout, all batches.
    """
    import grain

    if not 0 <= host < hosts:
        raise UserError(f"host {host} of {hosts}: the number must be in [0, {hosts})")
    example = _example(config, tokenizer, split, train=train)
    weights = {name: float(weight) for name, weight in dict(config.data.weights or {}).items()}
    if train and weights and epochs is None:
        stream = _weighted(example, weights, seed)
    else:
        positions = grain.MapDataset.range(len(example.source))
        stream = positions.shuffle(seed=_seed32(seed, "order")) if train else positions
        stream = stream.random_map(example, seed=_seed32(seed, "draw")).repeat(epochs)
    stream = stream[host::hosts].batch(batch_size, drop_remainder=train)
    if train and len(stream) == 0:
        raise UserError(
            f"split {split!r} of {config.data.path} has {len(example.source)} records: fewer than one batch of "
            f"{batch_size} for each of {hosts} hosts; lower batch_size"
        )
    # A batch is one element here: two threads decode the next ones while the accelerator works.
    loader = stream.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    workers = int(config.data.workers) if workers is None else workers
    if workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():  # grain's workers read absl flags; notebooks never parse any
            flags.FLAGS.mark_as_parsed()
        loader = loader.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2))
    return loader


def _weighted(example: _Example, weights: Mapping[str, float], seed: int) -> Any:
    """An endless mixture: each source shuffled and repeated on its own, drawn in proportion to its weight."""
    import grain

    ranges = example.source.positions
    if unknown := sorted(set(weights) - set(ranges)):
        raise UserError(f"config.data.weights names {unknown[0]!r}, which is not in the data: {sorted(ranges)}")
    parts, proportions = [], []
    for name, spans in ranges.items():
        weight = weights.get(name, 0.0)
        if weight > 0:
            positions: Any = np.concatenate([np.arange(start, stop) for start, stop in spans])
            part = grain.MapDataset.source(positions).shuffle(seed=_seed32(seed, f"order {name}"))
            parts.append(part.random_map(example, seed=_seed32(seed, f"draw {name}")).repeat())
            proportions.append(weight)
    if not parts:
        raise UserError("config.data.weights are all zero: give at least one source a positive weight")
    return grain.MapDataset.mix(parts, weights=proportions) if len(parts) > 1 else parts[0]


def _seed32(seed: int, purpose: str) -> int:
    """A seed in [0, 2**32) for one purpose, so that order and draws are independent."""
    return random.Random(f"{seed}/{purpose}").getrandbits(32)


def fixed_batch(config: Any, tokenizer: Tokenizer, split: str, n: int, seed: int) -> Batch:
    """The same `n` examples at every call (fewer when the split is smaller), for validation and image grids.

    Spread over the split at random; no caption dropout, languages in turn (for "both"), captions drawn by seed.
    """
    example = _example(config, tokenizer, split, train=False)
    draw = random.Random(f"{seed}/fixed")
    chosen = draw.sample(range(len(example.source)), min(n, len(example.source)))
    examples = []
    for place, index in enumerate(chosen):
        record = example.source[index]
        turn = dataclasses.replace(example, language=LANGUAGES[place % 2]) if example.language == "both" else example
        if not record.captions.get(turn.language):
            turn = example
        rng = np.random.default_rng([_seed32(seed, "caption"), index])
        examples.append(turn.make(index, record, turn.caption(record, rng), None))
    return {name: np.stack([one[name] for one in examples]) for name in examples[0]}


def record_id(source: RecordSource, index: int) -> str:
    """The id of a batch's `index` entry, e.g. to name the records of a batch whose loss is not finite."""
    return source[int(index)].id
