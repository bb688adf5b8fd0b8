"""Weights of LPIPS (models/lpips.py) from a safetensors file with the names that PyTorch's `lpips` and torchvision use.

features.0.weight [64, 3, 3, 3], features.0.bias, ...     VGG16's convolutions, counted as torchvision counts layers
lin0.model.1.weight [1, 64, 1, 1], ... lin4.model.1.weight
"""

from typing import Any

import jax
import numpy as np

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop.safetensors_files import open_tensors
from ernie_vilg_jax.models import lpips

FLAG = "--config.phases.autoencoder.perceptual_weights"


def read_lpips(path: str) -> Params:
    """Parameters for `models.lpips.distance`. Raises UserError naming what is missing or of another shape."""
    tensors = open_tensors(path)

    def read(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if tensors.shapes.get(name) != shape:
            found = tensors.shapes.get(name, "missing")
            raise UserError(f"{FLAG}={path}: tensor {name} must have shape {shape}, and is {found} (docs/weights.md)")
        return tensors.read(name)

    params: dict[str, Any] = {}
    layer = 0
    for block, (channels, count) in enumerate(lpips.BLOCKS):
        for i in range(count):
            shape = lpips.shapes()[f"conv_{block}_{i}"]["kernel"].shape
            kernel = read(f"features.{layer}.weight", (shape[3], shape[2], 3, 3)).transpose(2, 3, 1, 0)
            params[f"conv_{block}_{i}"] = {"kernel": kernel, "bias": read(f"features.{layer}.bias", (channels,))}
            layer += 2  # a ReLU follows
        layer += 1  # and, after each block, pooling
        params[f"weight_{block}"] = read(f"lin{block}.model.1.weight", (1, channels, 1, 1)).reshape(channels)
    return jax.tree.map(np.ascontiguousarray, params)
