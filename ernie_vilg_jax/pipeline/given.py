"""The image and the mask of a call, as the latents that its program takes."""

from collections.abc import Callable

import jax.numpy as jnp
from PIL import Image

from ernie_vilg_jax import images
from ernie_vilg_jax.diffusion.inpainting import Known
from ernie_vilg_jax.pipeline.request import Request
from ernie_vilg_jax.pipeline.runner import NOTHING, Given, Runner

Finish = Callable[[Image.Image], Image.Image]


def given_of(
    image: Image.Image | None, mask: Image.Image | None, request: Request, runner: Runner
) -> tuple[Given, Finish]:
    """The latents of an image and a mask, and what is to be done with each image that is made.

    Raises UserError if they cannot be read, or do not fit each other.
    """
    if image is None:
        return NOTHING, lambda made: made
    known = images.fitted(image, *request.size)
    share = None if mask is None else images.fitted_mask(mask, image, *request.size)
    if share is None and request.strength == 1:
        return NOTHING, lambda made: made
    latents = runner.encode(images.to_array(known))[None]
    start = latents if request.strength < 1 else None
    if share is None:
        return Given(start), lambda made: made

    def paste(made: Image.Image) -> Image.Image:
        pasted = images.paste(known, made, share)
        pasted.info.update(made.info)
        return pasted

    where = images.known_cells(share, runner.model.autoencoder.downsampling)[None, ..., None]
    return Given(start, Known(latents, jnp.asarray(where))), paste
