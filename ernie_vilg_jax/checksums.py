"""Checksums of arrays that do not depend on where the arrays are: one device, any mesh, any number of processes.

Each element's bits are mixed with its index, and the results are summed modulo 2^32, twice with different mixing. Sums
of integers are the same in any order, so each device sums its own piece, and no array is moved.

    "float32:<exact>:<as bfloat16>"      for float32 arrays, which may be read as either dtype
    "bfloat16:<exact>"                   for bfloat16 arrays; the same if they are read as float32
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import keystr, tree_leaves_with_path

from ernie_vilg_jax.aliases import Tree

Array = jax.Array | np.ndarray

_ROUNDS = (0x9E3779B1, 0x85EBCA77)
"""Odd numbers, one for each of the two sums."""
SMALL = 2**13
"""Elements up to which numpy sums an array that one process can read."""
PIECES = (2**16, 2**20)
"""Elements of a larger one that are summed at once."""


def of_items(items: Mapping[str, Tree]) -> dict[str, dict[str, str]]:
    """Item name -> path of each of its arrays, such as "ema/conv_in/kernel" -> its checksum. All processes call it."""
    leaves = {(name, path): leaf for name, tree in items.items() for path, leaf in _leaves(tree).items()}
    found: dict[str, dict[str, str]] = {name: {} for name in items}
    for (name, path), text in zip(leaves, _texts(list(leaves.values())), strict=True):
        found[name][path] = text
    return found


def differences(tree: Tree, stated: Mapping[str, str]) -> list[str]:
    """Paths of the arrays that differ from their checksums, or have none."""
    return [path for path, text in of_items({"": tree})[""].items() if not _agrees(text, stated.get(path, ""))]


def _leaves(tree: Tree) -> dict[str, Array]:
    leaves = [(keystr(path, simple=True, separator="/"), leaf) for path, leaf in tree_leaves_with_path(tree)]
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    return {path: jax.random.key_data(leaf) if is_key(leaf) else leaf for path, leaf in leaves}


def _texts(leaves: list[Array]) -> list[str]:
    """Starts all sums first, then collects them."""
    pending = [_sums(leaf) for leaf in leaves]
    sums = np.zeros((len(leaves), 4), np.uint32)
    for row, pieces in zip(sums, pending, strict=True):
        for piece in map(np.ravel, pieces):
            row[: len(piece)] += piece
    if jax.process_count() > 1:
        sums = np.asarray(multihost_utils.process_allgather(sums)).sum(axis=0, dtype=np.uint32)
    return [_text(str(leaf.dtype), row) for leaf, row in zip(leaves, sums, strict=True)]


def _text(dtype: str, sums: np.ndarray) -> str:
    exact, rounded = (f"{int(high):08x}{int(low):08x}" for high, low in sums.reshape(2, 2))
    return ":".join([dtype, exact, *([rounded] if dtype == "float32" else [])])


def _agrees(found: str, stated: str) -> bool:
    (dtype, exact), (before, *known) = found.split(":")[:2], stated.split(":")
    if before == "float32" and dtype == "bfloat16":
        return known[1:] == [exact]
    return known[:1] == [exact] and (before == dtype or {before, dtype} == {"bfloat16", "float32"})


def _sums(leaf: Array) -> Sequence[Array]:
    """Sums [2] uint32 of an array's pieces in this process; [4] for float32, followed by those of bfloat16.

    Each device sums its own piece: nothing is exchanged between devices. Only the pieces of small arrays are put
    together in this process, if it has all of them: a program for each shape would take longer to compile.
    """
    if jax.process_index() and (not isinstance(leaf, jax.Array) or leaf.is_fully_addressable):
        return []  # every process has the same copy; only the first one counts
    if not isinstance(leaf, jax.Array):
        return [_here(np.asarray(leaf))]
    together = leaf.is_fully_addressable and leaf.size <= SMALL
    if together or not isinstance(leaf.sharding, NamedSharding) or len(leaf.sharding.device_set) == 1:
        return [_here(np.asarray(leaf))]
    spec = PartitionSpec(*leaf.sharding.spec, *[None] * (leaf.ndim - len(leaf.sharding.spec)))
    rows = {shard.device: shard.data for shard in _on_devices(leaf, leaf.sharding.mesh, spec).addressable_shards}
    return [rows[shard.device] for shard in leaf.addressable_shards if shard.replica_id == 0]


@partial(jax.jit, static_argnums=(1, 2))
def _on_devices(leaf: jax.Array, mesh: Mesh, spec: PartitionSpec) -> jax.Array:
    """[devices, 2 or 4] uint32: the sums of each device's piece."""
    names = [axes if isinstance(axes, tuple) else (axes,) if axes else () for axes in spec]

    def piece(part: jax.Array) -> jax.Array:
        index: Any = jnp.uint32(0)
        for axis, over in enumerate(names):
            place: Any = jax.lax.axis_index(over) if over else 0
            stride = math.prod(leaf.shape[axis + 1 :]) % 2**32
            first = jnp.asarray(place, jnp.uint32) * np.uint32(part.shape[axis])
            index += (first + jax.lax.broadcasted_iota(jnp.uint32, part.shape, axis)) * np.uint32(stride)
        return _mixed(_bits(part), index, part.dtype == jnp.float32)[None]

    every = PartitionSpec(mesh.axis_names)
    return jax.shard_map(piece, mesh=mesh, in_specs=spec, out_specs=every, check_vma=False)(leaf)


def _here(array: np.ndarray) -> np.ndarray:
    """The same of an array in memory: by numpy if it is small, else by a program for each of the two PIECES.

    A program for each shape would take seconds to compile, and to call one takes longer than numpy does for thousands
    of elements: most arrays of a model have fewer.
    """
    full = array.dtype == np.float32
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.size <= SMALL:
        return _mixed(_numpy_bits(flat), np.arange(flat.size, dtype=np.uint32), full)
    total = np.zeros(4 if full else 2, np.uint32)
    size = next((size for size in PIECES if flat.size <= size), PIECES[-1])
    for start in range(0, flat.size, size):
        piece = flat[start : start + size]
        padded = np.zeros(size, np.uint32)
        padded[: piece.size] = _numpy_bits(piece)
        total += np.asarray(_piece(padded, np.uint32(start % 2**32), np.uint32(piece.size), full))
    return total


@partial(jax.jit, static_argnums=3)
def _piece(bits: jax.Array, start: jax.Array, count: jax.Array, full: bool) -> jax.Array:
    place = jnp.arange(bits.shape[0], dtype=jnp.uint32)
    return _mixed(bits, place + start, full, place < count)


def _mixed(bits: Any, index: Any, full: bool, where: Any = True) -> Any:
    """Sums [2], or [4] if `full`; in numpy if `bits` are."""
    versions = [bits, _rounded(bits)] if full else [bits]
    mixed = [_mix(one * np.uint32(odd) ^ _mix(index + np.uint32(odd))) for one in versions for odd in _ROUNDS]
    return bits.__array_namespace__().stack([one.sum(dtype=np.uint32, where=where) for one in mixed])


def _numpy_bits(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.bool_ or np.issubdtype(array.dtype, np.integer):
        return array.astype(np.uint32)
    if array.dtype.itemsize not in (2, 4):
        raise ValueError(f"{array.dtype} has no checksum: arrays of checkpoints have 16 or 32 bits")
    return array.view(np.uint32) if array.dtype.itemsize == 4 else array.view(np.uint16).astype(np.uint32) << 16


def _bits(leaf: jax.Array) -> jax.Array:
    """The elements' bits as uint32; bfloat16 as the float32 of the same value. Uses no float arithmetic."""
    if leaf.dtype == jnp.bool_ or jnp.issubdtype(leaf.dtype, jnp.integer):
        return leaf.astype(jnp.uint32)
    size = leaf.dtype.itemsize
    bits = jax.lax.bitcast_convert_type(leaf, jnp.uint32 if size == 4 else jnp.uint16).astype(jnp.uint32)
    return bits << 16 if size == 2 else bits


def _rounded(bits: Any) -> Any:
    """The bits of float32 values rounded to bfloat16, to nearest, ties to even; NaN as casts produce it."""
    nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    nearest = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    where = bits.__array_namespace__().where
    return where(nan, bits | np.uint32(0x00400000), nearest) & np.uint32(0xFFFF0000)


def _mix(x: Any) -> Any:
    """The finalizer of MurmurHash3 (public domain): every bit of the result depends on every bit of `x`."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))
