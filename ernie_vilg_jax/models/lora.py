"""Low-rank adapters (LoRA, arXiv 2106.09685): a kernel W becomes W + scale A B, where only A and B are trained.

    dense         W [I, O]         A [I, r]         B [r, O]
    convolution   W [h, w, I, O]   A [h, w, I, r]   B [r, O]
    embedding     W [V, D]         A [V, r]         B [r, D]

A tree of adapters is the tree of the parameters, with {"a", "b"} in place of each adapted array and without the others.
Kernels are merged with their adapters before the network runs, so the modules know nothing of them.
"""

import re
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

Params = Any
ADAPTED = ("kernel", "embedding")
"""Names of the arrays that can have an adapter."""


def targeted(params: Params, targets: Sequence[str]) -> dict[str, Any]:
    """{"down_0_attn_0/qkv/kernel": array} of the arrays whose module any of the regexes matches, as `re.search` does.

    A module is "down_0_attn_0/qkv"; `params` may be shapes.
    """
    found, leaves = {}, dict[str, Any](flatten_dict(params, sep="/"))
    for path, leaf in leaves.items():
        module, _, name = path.rpartition("/")
        if name in ADAPTED and len(leaf.shape) > 1 and any(re.search(target, module) for target in targets):
            found[path] = leaf
    return found


def init(key: jax.Array, params: Params, targets: Sequence[str], rank: int) -> Params:
    """Fresh adapters of `params` (or their shapes), fp32: merged with any parameters, they change nothing.

    A is uniform within 1/sqrt(fan-in) and B zero, as in the paper's code; of an embedding it is the other way round, so
    that a token which does not occur keeps its row.
    """
    adapters = {}
    for path, leaf in targeted(params, targets).items():
        *rest, last = leaf.shape
        own = jax.random.fold_in(key, zlib.crc32(path.encode()))
        a, b = jnp.zeros((*rest, rank)), jnp.zeros((rank, last))
        if path.endswith("/embedding"):
            b = jax.random.normal(own, b.shape) * 0.02
        else:
            bound = float(np.prod(rest)) ** -0.5
            a = jax.random.uniform(own, a.shape, minval=-bound, maxval=bound)
        adapters[path] = {"a": a, "b": b}
    return unflatten_dict(adapters, sep="/")


def merged(params: Params, adapters: Params, scale: float) -> Params:
    """The parameters with their adapters added, in the parameters' dtypes; numpy arrays stay numpy arrays."""
    if not isinstance(params, dict):
        delta = scale * (adapters["a"].astype("float32") @ adapters["b"].astype("float32"))
        return (params.astype("float32") + delta).astype(params.dtype)
    if unknown := sorted(set(adapters) - set(params)):
        raise ValueError(f"there is no {unknown[0]} that an adapter could change")
    return {name: merged(one, adapters[name], scale) if name in adapters else one for name, one in params.items()}


def count(tree: Params) -> int:
    """How many numbers a tree of arrays or shapes has."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
