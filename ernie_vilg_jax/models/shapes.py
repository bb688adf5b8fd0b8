"""Shapes of the parameters of modules, traced once for equal modules: those of the paper take seconds."""

from collections.abc import Callable, Hashable
from typing import Any

import jax
from flax import linen as nn

from ernie_vilg_jax.aliases import Params

_shapes: dict[Hashable, Params] = {}


def shapes_of(module: nn.Module, *inputs: jax.Array | jax.ShapeDtypeStruct, method: Any = None) -> Params:
    """Shapes of the parameters of a module with these inputs."""
    abstract = tuple(jax.ShapeDtypeStruct(one.shape, one.dtype) for one in inputs)
    init: Any = lambda key, *inputs: module.init(key, *inputs, method=method)["params"]  # noqa: E731
    return traced_once((module, abstract, method), init, *abstract)


def traced_once(what: Hashable, init: Callable[..., Params], *inputs: jax.ShapeDtypeStruct) -> Params:
    """Shapes of `init(key, *inputs)`; equal `what` have equal shapes."""
    if what not in _shapes:
        _shapes[what] = jax.eval_shape(init, jax.random.key(0), *inputs)
    return jax.tree.map(lambda leaf: leaf, _shapes[what])
