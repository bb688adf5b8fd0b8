"""Convolutions of PyTorch joined with the batch norms that follow them: at inference the two are one convolution."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.interop import layout
from ernie_vilg_jax.interop.safetensors_files import Tensors
from ernie_vilg_jax.models.shapes import shapes_of

STATISTICS = ("weight", "bias", "running_mean", "running_var")
EPSILON = 1e-3
"""TensorFlow's, which both Inception and EfficientNet come from."""


def abstract_params(module: nn.Module, size: int) -> Params:
    """Shapes of the parameters of a module of images [B, size, size, 3]."""
    return shapes_of(module, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))


def read(module: nn.Module, size: int, theirs: Mapping[str, tuple[str, str]], tensors: Tensors, what: str) -> Params:
    """Parameters of a network of convolutions with bias, as numpy fp32.

    Args:
      module: takes images [B, size, size, 3].
      theirs: our path of each convolution -> their names of it and of the batch norm that follows it.
      tensors: exactly those of `theirs`.
      what: names the network in messages.

    Raises UserError where a tensor is missing, left over or of another shape.
    """
    abstract = layout.flat(abstract_params(module, size))
    wanted = {}
    for ours in theirs:
        wanted[f"{ours}/kernel"] = abstract[f"{ours}/kernel"]
        wanted |= {f"{ours}/{part}": abstract[f"{ours}/bias"] for part in STATISTICS}

    def names(path: str) -> tuple[str, ...]:
        ours, part = path.rsplit("/", 1)
        convolution, norm = theirs[ours]
        return (f"{convolution}.weight" if part == "kernel" else f"{norm}.{part}",)

    found = layout.flat(layout.read_tree(layout.nested(wanted), names, tensors, what))
    leaves = {}
    for ours in theirs:
        scale, shift, mean, variance = (found[f"{ours}/{part}"].astype(np.float64) for part in STATISTICS)
        scale = scale / np.sqrt(variance + EPSILON)
        leaves[f"{ours}/kernel"] = np.asarray(found[f"{ours}/kernel"] * scale, np.float32)
        leaves[f"{ours}/bias"] = np.asarray(shift - mean * scale, np.float32)
    return layout.nested(leaves)
