"""Positions with random access: ranges, batches of one size, and examples made in parallel."""

import threading
from collections import Counter
from typing import Any

import grain
import numpy as np
import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.data.examples import Drawn, ExampleMaker
from ernie_vilg_jax.data.loader import fixed_examples, make_loader
from ernie_vilg_jax.data.order import ProcessRows, Ranges, SizedBatches
from ernie_vilg_jax.data.tokenizers import load_tokenizer


@pytest.mark.parametrize("spans", [[(3, 5), (10, 13)], [(0, 1)], [], [(7, 7), (2, 4)]])
def test_ranges_are_a_list_of_their_numbers(spans: list[tuple[int, int]]) -> None:
    expected = [number for start, stop in spans for number in range(start, stop)]
    assert len(Ranges(spans)) == len(expected)
    assert [Ranges(spans)[place] for place in range(len(expected))] == expected
    with pytest.raises(IndexError):
        Ranges(spans)[len(expected)]


def sized(batch_size: int) -> SizedBatches:
    names = [f"{letter}{number}" for letter in "ab" for number in range(6)]
    streams = [grain.MapDataset.source(names[start : start + 6]).shuffle(seed=1).repeat() for start in (0, 6)]
    return SizedBatches(streams, [3.0, 1.0], batch_size)


def test_each_batch_comes_from_one_stream_and_each_element_once_an_epoch() -> None:
    batches = [[sized(4)[4 * batch + row] for row in range(4)] for batch in range(24)]
    letters = ["".join({name[0] for name in batch}) for batch in batches]
    assert Counter(letters) == {"a": 18, "b": 6}
    for letter in "ab":
        names = [name for batch in batches for name in batch if name[0] == letter]
        for start in range(0, len(names), 6):
            assert len(set(names[start : start + 6])) == 6


def test_a_later_start_and_other_processes_see_the_same_batches() -> None:
    whole = [sized(4)[place] for place in range(40)]
    later = sized(4)[16:]
    assert [later[place] for place in range(24)] == whole[16:]
    rows = ProcessRows(later, 4, (1, 3))
    assert [rows[place] for place in range(12)] == [whole[16 + 4 * k + row] for k in range(6) for row in (1, 3)]


@pytest.mark.parametrize("rows", [None, range(8)])
@pytest.mark.parametrize("fixed", [True, False])
def test_the_examples_of_a_batch_are_made_in_parallel(
    rows: Any, fixed: bool, ready: ConfigDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a batch of eight, with eight threads; were they made one after the other, the first would wait in vain."""
    together, arrays = threading.Barrier(8, timeout=20), ExampleMaker.arrays

    def slow(maker: ExampleMaker, drawn: Drawn) -> dict[str, np.ndarray]:
        together.wait()
        return arrays(maker, drawn)

    monkeypatch.setattr(ExampleMaker, "arrays", slow)
    ready.data.threads = 8
    if fixed:
        (batch,) = fixed_examples(ready, load_tokenizer(ready), "train", 8, 0).batches(8, rows)
        assert len(batch["index"]) == 8
        return
    batches = iter(make_loader(ready, load_tokenizer(ready), batch_size=8, rows=rows, seed=0))
    assert len(next(batches)["index"]) == 8
    batches.close()
