"""What the sampling modes are given: batches of pictures to be, and the network that all experts share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ernie_vilg_jax.diffusion.schedule import Denoised

Params = Any
Predict = Callable[[Params, jax.Array, jax.Array, Any, Any], Denoised]
"""predict(params, x [b, ...], t int32 [b], text, shared) -> (x0, epsilon) [b, ...]: what an expert sees, guided."""


class Inputs(NamedTuple):
    """M batches of b pictures each. Batches are independent: a batch's pictures do not depend on the others."""

    latents: jax.Array
    """[M, b, ...] unit-variance noise."""
    text: Any
    """Pytree of [M, b, ...]: what the network is told of each picture. Goes wherever the picture's latents go."""
    shared: Any
    """Pytree: what the network is told of all pictures (features of the empty prompt, guidance scale)."""
    keys: jax.Array
    """[M] or [M, b] keys: the randomness of the steps, of a batch or of each picture (`samplers.base.fresh_noise`)."""

    @property
    def count(self) -> int:
        """M."""
        return self.latents.shape[0]


def across(mesh: Mesh, size: int, axes: tuple[str, ...]) -> tuple[str, ...] | None:
    """The axes over which `size` pictures are cut: those named, or none where they do not divide."""
    return axes if size % int(np.prod([mesh.shape[axis] for axis in axes])) == 0 else None


def place(tree: Any, mesh: Mesh) -> Any:
    """Puts arrays [M, b, ...] on all devices of `mesh`, cut along b over all axes but `tensor` where that divides."""

    def one(leaf: Any) -> jax.Array:
        axes = across(mesh, leaf.shape[1], ("expert", "data", "fsdp"))
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(None, axes)))

    return jax.tree.map(one, tree)
