"""Sharding as an ordered list of rules: the first pattern that matches a parameter's path names its mesh axes.

Models have no sharding annotations. Paths are those of Flax's plain-dict parameters, joined by '/'.
"""

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from ernie_vilg_jax.aliases import Params, Tree
from ernie_vilg_jax.errors import UserError

Leaf = jax.Array | jax.ShapeDtypeStruct

BATCH = PartitionSpec(("expert", "data", "fsdp"))

# Path pattern -> mesh axes of the array's last dimensions. A dimension that its axis does not divide stays whole.
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"/(tokens/embedding|positions)$", (None, "fsdp")),
    (r"/(out|mlp_out)/kernel$", ("tensor", "fsdp")),
    (r"/kernel$", ("fsdp", "tensor")),
    (r"", ()),
)


def path_of(key_path: tuple[Any, ...]) -> str:
    """'/params/down_0_res_0/conv_in/kernel' of a jax key path."""
    return f"/{jax.tree_util.keystr(key_path, simple=True, separator='/')}"


def spec_of(path: str, shape: tuple[int, ...], mesh: Mesh, lead: tuple[str, ...] = ()) -> PartitionSpec:
    """The placement of an array by path and shape; `lead` names the axes of its first dimensions (stacked experts)."""
    axes = next(axes for pattern, axes in RULES if re.search(pattern, path))
    rest = shape[len(lead) :]
    axes = ((None,) * (len(rest) - len(axes)) + axes)[: len(rest)] if len(rest) >= len(axes) else (None,) * len(rest)
    names = (*lead, *axes)
    fits = lambda size, axis: axis is not None and size % mesh.shape[axis] == 0  # noqa: E731
    return PartitionSpec(*(axis if fits(size, axis) else None for size, axis in zip(shape, names, strict=True)))


def shardings(tree: Tree, mesh: Mesh, lead: tuple[str, ...] = ()) -> Tree:
    """A NamedSharding for every array (or ShapeDtypeStruct) of `tree`."""

    def one(key_path: tuple[Any, ...], leaf: Leaf) -> NamedSharding:
        return NamedSharding(mesh, spec_of(path_of(key_path), leaf.shape, mesh, lead if leaf.ndim >= len(lead) else ()))

    return jax.tree_util.tree_map_with_path(one, tree)


def gather(tree: Params, mesh: Mesh, dtype: DTypeLike) -> Params:
    """Gathers parameters that are cut along `fsdp`, for computing; their gradients are cut again.

    Kernels are gathered in the compute dtype: half the traffic, and the same numbers, because layers cast them anyway.
    This is explicit because the compiler, left alone, moves activations instead (FSDP as a "windowed einsum"), which
    costs more. `tree` is one model's parameters, inside a jitted function under `jax.set_mesh(mesh)`.
    """
    if mesh.shape["fsdp"] == 1:
        return tree

    def one(key_path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        path = path_of(key_path)
        spec = spec_of(path, leaf.shape, mesh)
        if "fsdp" not in spec:
            return leaf
        # The U-Net's last layer computes in fp32 (models/unet.py).
        half = path.endswith("/kernel") and path != "/conv_out/kernel"
        whole = PartitionSpec(*(None if axis == "fsdp" else axis for axis in spec))
        return _whole(leaf.astype(dtype) if half else leaf, whole, spec)

    return jax.tree_util.tree_map_with_path(one, tree)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _whole(leaf: jax.Array, whole: PartitionSpec, cut: PartitionSpec) -> jax.Array:
    """`leaf` placed as `whole`; its gradient placed as `cut`: one reduce-scatter in place of a sum on every device."""
    return jax.lax.with_sharding_constraint(leaf, whole)


def _whole_forward(leaf: jax.Array, whole: PartitionSpec, cut: PartitionSpec) -> tuple[jax.Array, None]:
    return _whole(leaf, whole, cut), None


def _whole_backward(whole: PartitionSpec, cut: PartitionSpec, residual: None, gradient: jax.Array) -> tuple[jax.Array]:
    return (jax.lax.with_sharding_constraint(gradient, cut),)


_whole.defvjp(_whole_forward, _whole_backward)


def placed(tree: Tree, shardings: Tree) -> Tree:
    """ShapeDtypeStructs of `tree`'s arrays with `shardings`, a tree of the same structure."""
    return jax.tree.map(lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s), tree, shardings)


def local_bytes(tree: Tree) -> float:
    """Bytes of an abstract, placed tree on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * float(getattr(leaf.dtype, "itemsize", 4))
        for leaf in jax.tree.leaves(tree)
    )


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Images over all axes but `tensor`; the first of the batch go to the first expert group, and so on."""
    return NamedSharding(mesh, BATCH)


def to_devices(batch: Mapping[str, np.ndarray], mesh: Mesh, size: int) -> dict[str, jax.Array]:
    """This process's rows of a batch of `size` as global arrays, their first axis over the mesh."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array, (size, *array.shape[1:]))
        for name, array in batch.items()
    }


def over_batch_axes(tree: Tree, lead: tuple[str, ...] = ()) -> Tree:
    """Arrays [*lead, B, ...] with the batch over `data` and `fsdp`; inside a jitted function under `jax.set_mesh`.

    The compiler does not always keep the inputs' placement: after a reshape or a random draw it may put the whole batch
    on every device, and cut channels instead.
    """
    spec = PartitionSpec(*lead, ("data", "fsdp"))
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, spec), tree)


def spread(tree: Tree) -> Tree:
    """The same over all axes but `tensor`, outside of expert groups: the placement of `batch_sharding`."""
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, BATCH), tree)


def check_batch(size: int, pieces: int, mesh: Mesh, flag: str) -> None:
    """Raises UserError unless `size` images can be cut into `pieces`, and each piece over the mesh's data axes."""
    across = mesh.shape["data"] * mesh.shape["fsdp"]
    unit = pieces * across
    if size % unit:
        near = max(unit, round(size / unit) * unit)
        raise UserError(
            f"--config.{flag}={size} must be a multiple of {unit} ({pieces} parts over data={mesh.shape['data']} x "
            f"fsdp={mesh.shape['fsdp']} devices); the nearest: {near}"
        )
