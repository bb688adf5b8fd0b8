"""Processes that read only their own rows together see the same as a single process."""

from collections.abc import Sequence

import numpy as np
import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.data.loader import make_loader
from ernie_vilg_jax.data.tokenizers import Tokenizer, load_tokenizer


@pytest.fixture
def tokenizer(ready: ConfigDict) -> Tokenizer:
    return load_tokenizer(ready)


def read(
    config: ConfigDict, tokenizer: Tokenizer, count: int, rows: Sequence[int] | None, start: int = 0, workers: int = 0
):
    loader = iter(make_loader(config, tokenizer, batch_size=8, rows=rows, start=start, seed=5, workers=workers))
    batches = [next(loader) for _ in range(count)]
    loader.close()
    return batches


@pytest.mark.parametrize("shares", [[range(0, 4), range(4, 8)], [(0, 1, 6, 7), (2, 3), (4, 5)], [range(8), range(8)]])
def test_rows_of_processes_are_the_rows_of_one(shares: list, ready: ConfigDict, tokenizer: Tokenizer) -> None:
    whole = read(ready, tokenizer, 3, range(8))
    for rows in shares:
        for batch, expected in zip(read(ready, tokenizer, 3, rows), whole, strict=True):
            for name in expected:
                np.testing.assert_array_equal(batch[name], expected[name][list(rows)])


def test_without_rows_the_whole_batch_is_read(ready: ConfigDict, tokenizer: Tokenizer) -> None:
    whole = read(ready, tokenizer, 5, range(8))
    for batch, expected in zip(read(ready, tokenizer, 3, None, 16), whole[2:], strict=True):
        for name in expected:
            np.testing.assert_array_equal(batch[name], expected[name])


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_later_start_skips_seen_examples(workers: int, ready: ConfigDict, tokenizer: Tokenizer) -> None:
    """Also over the end of an epoch; the same for any number of workers."""
    whole = read(ready, tokenizer, 9, range(8))
    for batch, expected in zip(read(ready, tokenizer, 5, (1, 5), 32, workers), whole[4:], strict=True):
        for name in expected:
            np.testing.assert_array_equal(batch[name], expected[name][[1, 5]])
