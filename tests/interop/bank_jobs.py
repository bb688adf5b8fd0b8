"""Runs that train single experts from one base, and how tests compare what comes of them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from absl.testing import flagsaver

from ernie_vilg_jax import checkpoint, checkpointing
from ernie_vilg_jax.models.autoencoder import Posterior
from ernie_vilg_jax.pipeline import load
from ernie_vilg_jax.training import in_turn, loop

STEPS = 4

SHARED = ("autoencoder", "text_encoder", "tokenizer")

EXPERTS = ("expert_00", "expert_01")


class Jobs(NamedTuple):
    """Working directories in which the same base was branched into experts."""

    first: Path
    """Trained expert 0."""
    second: Path
    """Trained expert 1."""


def command(*words: Any, **flags: Any) -> None:
    with flagsaver.flagsaver(**flags):
        checkpoint.main(["checkpoint", *map(str, words)])


def item(path: Path, name: str) -> Any:
    return checkpointing.read_whole(checkpointing.find(path), name)


def assert_equal(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def assert_close(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, other)


def picture(path: Path) -> np.ndarray:
    return np.asarray(load(path)("红色的圆形", steps=4, seed=3)[0], np.int32)


def with_base(whole_run: Path, workdir: Path) -> Path:
    for phase in ("autoencoder", "base"):
        shutil.copytree(whole_run / phase, workdir / phase)
    return workdir


@contextmanager
def same_samples(pictures: dict[str, np.ndarray]) -> Iterator[None]:
    """Every expert sees the same four images and latents in every step, however many are trained beside it."""
    original = loop.to_devices

    def changed(batch: dict[str, np.ndarray], mesh: Any, size: int) -> Any:
        for name, array in batch.items():
            pictures.setdefault(name, array[:4])
        batch = {name: np.resize(pictures[name], (size, *array.shape[1:])) for name, array in batch.items()}
        return original(batch, mesh, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "to_devices", changed)
        patch.setattr(Posterior, "sample", lambda self, key: self.mean)
        # An expert of two is rounded like one alone. Adam scales gradients that are zero but for rounding to full size.
        patch.setattr(in_turn, "PLATFORMS", ("cpu",))
        yield
