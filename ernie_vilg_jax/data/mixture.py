"""An endless stream of examples for training: each source in proportion to its weight, each size in batches of its own.

positions of a source and a size -> shuffle (again in each epoch) -> example -> repeat --mix sources--> SizedBatches
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import grain
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from ernie_vilg_jax.data.examples import ExampleMaker
from ernie_vilg_jax.data.groups import Group, groups_of
from ernie_vilg_jax.data.order import Ranges, SizedBatches
from ernie_vilg_jax.data.records import RecordSource, read_manifest
from ernie_vilg_jax.data.sizes import smallest_side
from ernie_vilg_jax.errors import UserError


def endless(config: ConfigDict, example: ExampleMaker, seed: int, batch_size: int) -> Any:
    """All records in random order, without end; a batch has images of one of `example.viewer.sizes`.

    Without `config.data.weights` the sources are shuffled together. Otherwise each is shuffled and repeated on its own,
    and drawn in proportion to its weight.
    """
    weights = _weights(config, example.source)
    groups = groups_of(example.source, example.viewer.sizes, smallest_side(config))
    totals = {name: sum(len(group.get(name, ())) for group in groups) for name in example.source.positions}
    streams, shares = {}, {}
    for size, group in zip(example.viewer.sizes, groups, strict=True):
        purpose = f" {size}" if len(groups) > 1 else ""
        # The whole weight if there is one size, so that rounding changes no order of earlier versions.
        drawn = {
            name: weights[name] * (len(positions) / totals[name] if len(groups) > 1 else 1.0)
            for name, positions in group.items()
            if weights.get(name, 0.0) > 0
        }
        if weights and drawn:
            parts = [_shuffled(example, group[name], seed, f" {name}{purpose}") for name in drawn]
            streams[size] = grain.MapDataset.mix(parts, weights=list(drawn.values())) if len(parts) > 1 else parts[0]
            shares[size] = sum(drawn.values())
        elif group and not weights:
            streams[size] = _shuffled(example, _joined(group), seed, purpose)
            shares[size] = float(sum(map(len, group.values())))
    if not streams:
        raise UserError("no images are left of the sources in config.data.weights: lower config.data.smallest_side")
    if len(groups) == 1:
        return streams[example.viewer.sizes[0]]
    parts = [f"{size} {shares.get(size, 0.0) / sum(shares.values()):.1%}" for size in example.viewer.sizes]
    logging.info("sizes of images, and their shares of the batches: %s", ", ".join(parts))
    return SizedBatches(list(streams.values()), list(shares.values()), batch_size)


def _shuffled(example: ExampleMaker, positions: Any, seed: int, purpose: str) -> Any:
    stream = grain.MapDataset.source(positions).shuffle(seed=seed_for(seed, f"order{purpose}"))
    return stream.random_map(example, seed=seed_for(seed, f"draw{purpose}")).repeat()


def seed_for(seed: int, purpose: str) -> int:
    """A seed in [0, 2**32) for one purpose, so that order and draws are independent."""
    return random.Random(f"{seed}/{purpose}").getrandbits(32)


def _weights(config: Any, source: RecordSource) -> Mapping[str, float]:
    """`config.data.weights`, without those of the config's own sources if the data has other sources."""
    weights = {name: float(weight) for name, weight in dict(config.data.weights or {}).items()}
    if read_manifest(config.data.path).get("own_data"):
        weights = {name: weight for name, weight in weights.items() if name in source.positions}
    if unknown := sorted(set(weights) - set(source.positions)):
        raise UserError(
            f"config.data.weights names {unknown[0]!r}, which is not in the data: {sorted(source.positions)}"
        )
    if weights and not any(weight > 0 for weight in weights.values()):
        raise UserError("config.data.weights are all zero: give at least one source a positive weight")
    return weights


def _joined(group: Group) -> Any:
    """The positions of all sources of a group, ascending."""
    parts = list(group.values())
    if spans := [span for part in parts if isinstance(part, Ranges) for span in part.spans]:
        return Ranges(sorted(spans))
    return np.sort(np.concatenate(parts))
