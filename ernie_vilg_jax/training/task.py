"""The Task protocol: the interface between the training loop and a model (autoencoder or diffusion)."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np

State = dict[str, Any]
Batch = dict[str, jax.Array]
Items = dict[str, Any]
"""Checkpoint item name -> pytree. Every item can be restored alone."""


class Feed(Protocol):
    """Draws batches in place of a loader."""

    def batches(self, start: int, size: int, rows: Sequence[int]) -> Iterator[tuple[Batch, np.ndarray]]:
        """Batches without end, from example `start` on, and the records [b] in this process's `rows` of each."""
        ...


class Task(Protocol):
    """A model that can be trained. All methods but `items` and `state` are jitted by the task itself."""

    steps: int
    batch_size: int
    """Images a step, over all processes."""
    abstract: State
    """The state's shapes, dtypes and shardings."""
    shardings: Any
    """A NamedSharding for each array of the state."""
    resident: Feed | None
    """What draws its batches; None takes them from a loader, through `host_batch`."""
    notes: dict[str, Any]
    """More metadata of its checkpoints."""
    experts: tuple[str, ...]
    """Items that are not in `items`: the experts, in the order of the stack `state["experts"]`; () without a stack."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Abstract parameters of each part, for the log."""
        ...

    def init(self, key: jax.Array) -> State:
        """A fresh state, on its mesh; `state["step"]` is 0."""
        ...

    @property
    def fixed(self) -> State:
        """Parts of the state that never change and are in no checkpoint; {} if all of it is saved."""
        ...

    def items(self, state: State) -> Items:
        """The state without the experts, split into items of a checkpoint (`items.Cutter` splits all of it)."""
        ...

    def state(self, items: Items) -> State:
        """The inverse of `items`, without what is `fixed`."""
        ...

    def host_batch(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The part of the loader's batch that is transferred to the devices."""
        ...

    @property
    def train_step(self) -> Any:
        """Jitted (state, batch) -> (state, metrics): one step; donates `state`.

        Metrics hold the scalars "loss" and "grad_norm", and "per_sample" [B], which names bad records.
        """
        ...

    def validate(self, state: State) -> dict[str, float]:
        """Losses on a fixed set of (sample, timestep, noise), by name."""
        ...

    def preview(self, state: State) -> tuple[list[np.ndarray], list[str]]:
        """Images [H, W, 3] uint8, of one or several sizes, and a label each."""
        ...

    def flops_per_step(self, batch: Batch) -> float:
        """Multiply-adds x 2 of one step's matrix products and convolutions, over all devices, without recomputation."""
        ...
