"""Features of many images: in pieces that are stored as they are done, by several processes if there are any.

A piece is stored under a digest of its images' bytes and of the network. So it can never be of other images, an
interrupted evaluation goes on where it was, and the features of the same real images are computed once.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ernie_vilg_jax.evaluation.image_sets import ImageSet, pixels
from ernie_vilg_jax.paths import write_atomically
from ernie_vilg_jax.progress import Progress
from ernie_vilg_jax.sharding import processes

PIECE = 256
"""Images of a file of features."""


class Network(Protocol):
    """Images to features.

    Attributes:
      name: of the network and its weights' kind, such as "inception".
      fingerprint: digest of its weights and of all that decides its features.
    """

    name: str
    fingerprint: str

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Features [B, D] float32 of images uint8 [H, W, 3] of any sizes."""
        ...


class TextNetwork(Network, Protocol):
    """A network with a second tower that puts texts into the same space."""

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features [B, D] float32."""
        ...


def features_of(network: Network, images: ImageSet, folder: Path | None = None) -> np.ndarray:
    """Features [N, D] float32 of all images, read from `folder` where they are there already; None keeps nothing.

    With several processes each computes its share, and all return all; they must share the folder. Without a folder
    every process computes all, or the network works on all devices together (`OnMesh`).

    Raises UserError for an image that cannot be read.
    """
    if folder is None:
        return np.concatenate([network([pixels(images, row) for row in rows]) for rows in _rows(len(images))])
    folder = folder / network.name
    files = [(rows, folder / f"{_digest(network, images, rows)}.npy") for rows in _rows(len(images))]
    progress = Progress(len(images), f"images by {network.name}")
    for number, (rows, file) in enumerate(files):
        if _stored(file, len(rows)) is not None:
            progress.kept(len(rows))
        elif number % processes.count() == processes.index():
            found = network([pixels(images, row) for row in rows])
            buffer = io.BytesIO()
            np.save(buffer, np.asarray(found, np.float32))
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(file, buffer.getvalue())
            progress.made(len(rows))
    processes.wait_for_all(f"features by {network.name}")
    pieces = [_stored(file, len(rows)) for rows, file in files]
    assert all(piece is not None for piece in pieces), "a piece of features vanished"
    return np.concatenate([piece for piece in pieces if piece is not None])


def _rows(count: int) -> Iterator[range]:
    return (range(start, min(start + PIECE, count)) for start in range(0, count, PIECE))


def _digest(network: Network, images: ImageSet, rows: Sequence[int]) -> str:
    total = hashlib.sha256(f"{network.name} {network.fingerprint}".encode())
    for row in rows:
        total.update(hashlib.sha256(images.read(row)).digest())
    return total.hexdigest()[:32]


def _stored(file: Path, count: int) -> np.ndarray | None:
    """The features of a file; None if it is missing or damaged, and so has to be made again."""
    try:
        found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.ndim == 2 and len(found) == count else None
