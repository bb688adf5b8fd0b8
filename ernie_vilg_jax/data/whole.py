"""A whole split at once: the images of all records and the tokens of all their captions, read by worker processes."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import numpy as np

from ernie_vilg_jax import worker_processes
from ernie_vilg_jax.data.examples import ExampleMaker
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.knowledge.words import LANGUAGES

CHUNK = 1024
"""Records that a worker reads at once."""


class Chunk(NamedTuple):
    """Consecutive records.

    Attributes:
      images: [n, H, W, 3] uint8.
      counts: [n, 2] captions of each record in each of LANGUAGES.
      tokens: [m, L] int32, token_mask: [m, L] bool, of these captions, record by record.
    """

    images: np.ndarray
    counts: np.ndarray
    tokens: np.ndarray
    token_mask: np.ndarray


def read_whole(maker: ExampleMaker, workers: int) -> Iterator[Chunk]:
    """All records of `maker.source` in order, by `workers` processes; 0 reads them in this one."""
    spans = [(start, min(start + CHUNK, len(maker.source))) for start in range(0, len(maker.source), CHUNK)]
    if not workers:
        yield from (_chunk(maker, span) for span in spans)
        return
    context = worker_processes.context(__name__)
    with concurrent.futures.ProcessPoolExecutor(workers, context, _start, (maker,)) as pool:
        try:
            yield from pool.map(_read, spans)
        except BrokenProcessPool as error:
            worker_processes.kill_all()
            raise UserError(
                "a process that read the data died, perhaps for want of memory: run again with a smaller "
                f"--config.data.workers than {workers}"
            ) from error


def _chunk(maker: ExampleMaker, span: tuple[int, int]) -> Chunk:
    images, counts, rows = [], [], []
    for index in range(*span):
        drawn = maker.draw(index, np.random.default_rng(0))  # neither crop nor caption is random here
        captions = [drawn.record.captions.get(language, []) for language in LANGUAGES]
        images.append(maker.arrays(drawn._replace(text=""))["image"])
        counts.append([len(texts) for texts in captions])
        rows += [maker.tokenizer.encode(text)[:2] for texts in captions for text in texts]
    tokens, masks = zip(*rows, strict=True)
    return Chunk(np.stack(images), np.asarray(counts), np.stack(tokens), np.stack(masks))


_maker: ExampleMaker | None = None


def _start(maker: ExampleMaker) -> None:
    global _maker
    _maker = maker
    worker_processes.end_with_parent()


def _read(span: tuple[int, int]) -> Chunk:
    assert _maker is not None
    return _chunk(_maker, span)
