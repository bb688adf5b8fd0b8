"""The executor protocol and its inputs: batches of noise and text, and the network that all experts share."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ernie_vilg_jax.diffusion.samplers import Sampler
from ernie_vilg_jax.diffusion.schedule import Denoised

Params = Any
Predict = Callable[[Params, jax.Array, jax.Array, Any, Any], Denoised]
"""predict(params, x [b, ...], t int32 [b], text, shared) -> (x0, epsilon) [b, ...]: an expert's guided prediction."""


class Inputs(NamedTuple):
    """M batches of b images each. Batches are independent: a batch's images do not depend on the others."""

    latents: jax.Array
    """[M, b, ...] unit-variance noise."""
    text: Any
    """Pytree of [M, b, ...]: the network's other inputs for each image. Moves with the image's latents."""
    shared: Any
    """Pytree: the network's inputs for all images (features of the empty prompt, guidance scale)."""
    keys: jax.Array
    """[M] or [M, b] keys: the randomness of the steps, of a batch or of each image (`samplers.base.fresh_noise`)."""

    @property
    def count(self) -> int:
        """M."""
        return self.latents.shape[0]

    def batches(self) -> Iterator[tuple[jax.Array, Any, jax.Array]]:
        """Latents [b, ...], text and key of each batch."""
        for m in range(self.count):
            yield jax.tree.map(lambda leaf, m=m: leaf[m], (self.latents, self.text, self.keys))


class Step(NamedTuple):
    """A finished step."""

    index: int
    timestep: int
    """At which the step began."""
    stage: int
    """The stage whose expert was used."""
    x0: list[jax.Array]
    """M batches [b, ...]: the clean latents that the expert's last prediction in the step implies."""
    seen: list[Any]
    """M results of `look` (`stepwise.Stepped`)."""


OnStep = Callable[[Step], None]
"""Called in Python, in the order of the steps."""


class Executor(Protocol):
    """Samples with a bank of experts: `resident`, `streamed`, `pipelined`, `stepwise`.

    It holds compiled programs, one for all samplers of a kind: their steps, grids and numbers are data.
    """

    def __call__(self, experts: Any, sampler: Sampler, inputs: Inputs, on_step: OnStep | None = None) -> jax.Array:
        """Clean latents [M, b, ...] float32. `on_step` is for `stepwise`; the others raise ValueError."""
        ...


def unwatched(on_step: OnStep | None) -> None:
    """Raises ValueError: for executors whose steps are in one program."""
    if on_step is not None:
        raise ValueError("only sampling step by step (stepwise.Stepped) calls on_step")


def across(mesh: Mesh, size: int, axes: tuple[str, ...]) -> tuple[str, ...] | None:
    """The axes over which `size` images are sharded: those named, or none if they do not divide."""
    return axes if size % int(np.prod([mesh.shape[axis] for axis in axes])) == 0 else None


def place(tree: Any, mesh: Mesh) -> Any:
    """Puts arrays [M, b, ...] on all devices of `mesh`, sharded along b over all axes but `tensor` if that divides."""

    def one(leaf: Any) -> jax.Array:
        axes = across(mesh, leaf.shape[1], ("expert", "data", "fsdp"))
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(None, axes)))

    return jax.tree.map(one, tree)
