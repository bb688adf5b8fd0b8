"""Encodes images to latents before training, in pieces over the mesh, so that a device encodes only a few at once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh

from ernie_vilg_jax.data.loader import FixedExamples
from ernie_vilg_jax.model import Model, Params
from ernie_vilg_jax.models.autoencoder import Posterior
from ernie_vilg_jax.sharding import processes, rules
from ernie_vilg_jax.training.task import Batch

PIXELS = 2**20
"""Pixels that a device encodes or decodes at once: one image of 1024 x 1024, whose activations take a few GiB."""


def piece_of(model: Model, mesh: Mesh, pixels: int | None = None) -> int:
    """Number of images in a piece, over all devices; of the model's size, or of as many `pixels` each."""
    each = max(1, min(64, PIXELS // (pixels or model.image_size**2)))
    return each * mesh.shape["expert"] * mesh.shape["data"] * mesh.shape["fsdp"]


def pieces_of(
    examples: FixedExamples, model: Model, mesh: Mesh, names: Sequence[str] = ("image",)
) -> Iterator[tuple[int, Batch]]:
    """(index of its first image, piece) for each piece: the named arrays of the examples and "valid", sharded over the
    mesh. The images are of one size. Each process reads its own part."""
    (image,) = examples.example.viewer.sizes
    size = piece_of(model, mesh, image.height * image.width)
    for number, batch in enumerate(examples.batches(size, processes.own_rows(rules.batch_sharding(mesh), size))):
        yield number * size, rules.to_devices({name: batch[name] for name in (*names, "valid")}, mesh, size)


class Encoder:
    """Encodes pieces of `piece` images; `autoencoder` is always {"params", "mean" [c], "std" [c]}, on the mesh."""

    def __init__(self, model: Model, mesh: Mesh) -> None:
        self.model = model
        self.mesh = mesh
        self.piece = piece_of(model, mesh)

    @cached_property
    def posterior(self) -> Any:
        """Jitted (autoencoder, images uint8 [piece, H, W, 3]) -> Posterior of them, replicated on every device."""

        def run(autoencoder: Params, images: jax.Array) -> Posterior:
            return rules.spread(self.model.posterior(autoencoder, rules.spread(images)))

        return jax.jit(run, out_shardings=rules.replicated(self.mesh))

    @cached_property
    def moments(self) -> Any:
        """Jitted (autoencoder, images, valid [piece] bool) -> (count, mean [c], variance [c]) of latents.

        They are in the units of `autoencoder`; only images that are `valid` count. See `measure`.
        """

        def run(autoencoder: Params, images: jax.Array, valid: jax.Array) -> tuple[jax.Array, ...]:
            posterior = rules.spread(self.model.posterior(autoencoder, rules.spread(images)))
            where, axes = valid[:, None, None, None], (0, 1, 2)
            spread = posterior.mean.var(axes, where=where) + jnp.exp(posterior.log_variance).mean(axes, where=where)
            return valid.sum(), posterior.mean.mean(axes, where=where), spread

        return jax.jit(run, out_shardings=rules.replicated(self.mesh))


Moments = tuple[Any, Any, Any]
"""Count, mean [c] and variance [c]."""


def measure(encoder: Encoder, params: Params, pieces: Iterable[Batch]) -> dict[str, Any]:
    """A frozen autoencoder {"params", "mean" [c], "std" [c]} from its parameters and the images of `pieces`.

    Mean and standard deviation are those of latents as training draws them, not of the posteriors' means: the variance
    is that of the means, and on top of it the mean variance of the posteriors. So a channel without information, which
    is pure noise, has standard deviation 1 and is not amplified.
    """
    channels = encoder.model.autoencoder.latent_channels
    raw = {"params": params, "mean": np.zeros(channels, np.float32), "std": np.ones(channels, np.float32)}
    found = [encoder.moments(raw, batch["image"], batch["valid"]) for batch in pieces]
    return {"params": params, **scales(jax.device_get(found))}


def measure_encoded(params: Params, examples: Iterable[Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """The same from the posteriors of encoded data: the "mean" and "log_variance" [h, w, c] of each example."""
    found: list[Moments] = []
    for example in examples:
        mean, log_variance = (example[name].astype(np.float64) for name in ("mean", "log_variance"))
        cells = mean.shape[0] * mean.shape[1]
        found.append((cells, mean.mean((0, 1)), mean.var((0, 1)) + np.exp(log_variance).mean((0, 1))))
    return {"params": params, **scales(found)}


def scales(found: Sequence[Moments]) -> dict[str, np.ndarray]:
    """Mean and standard deviation [c] over all parts of which the moments are known, as float32."""
    counts, means, variances = (np.asarray(column, np.float64) for column in zip(*found, strict=True))
    mean = np.average(means, axis=0, weights=counts)
    spread = np.average(variances + np.square(means - mean), axis=0, weights=counts)
    std = np.sqrt(spread)
    if not np.all(std > 1e-6):
        logging.warning("latent channels %s carry nothing; their deviation is taken as 1", np.flatnonzero(std <= 1e-6))
        std = np.where(std > 1e-6, std, 1.0)
    logging.info("latents: mean %s, std %s", mean.round(2), std.round(2))
    return {"mean": mean.astype(np.float32), "std": std.astype(np.float32)}
