"""Feature networks on many devices."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ernie_vilg_jax.evaluation.features import Network
from ernie_vilg_jax.evaluation.networks import FeatureNetwork
from ernie_vilg_jax.sharding import processes, rules


def on_mesh(network: Network, mesh: Mesh) -> Network:
    """The network on all devices of a mesh, or as it is if it has no forward function of pixels alone."""
    return OnMesh(network, mesh) if isinstance(network, FeatureNetwork) else network


class OnMesh:
    """A feature network with its batches cut over all devices of a mesh.

    All processes of the mesh call it, with the same images; it may also be a mesh of one process's own devices.
    """

    def __init__(self, network: FeatureNetwork, mesh: Mesh) -> None:
        self.name, self.fingerprint = network.name, network.fingerprint
        self.network = network
        self.mesh = mesh
        self._params = processes.to_all(network.params, rules.replicated(mesh))
        self._forward = jax.jit(network.forward, out_shardings=rules.replicated(mesh))

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        across = self.mesh.size // self.mesh.shape["tensor"]
        size, found = across * max(1, self.network.batch_size // across), []
        for start in range(0, len(images), size):
            rows = np.minimum(np.arange(start, start + size), len(images) - 1)
            pixels = np.stack([self.network.prepare(images[row]) for row in rows])
            found.append(
                np.asarray(self._forward(self._params, processes.to_all(pixels, rules.batch_sharding(self.mesh))))
            )
        return np.concatenate(found)[: len(images)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)  # the text tower, whose texts are few
