"""The training loss: squared error of the prediction, with higher weights in salient regions.

ERNIE-ViLG 2.0, visual knowledge, https://arxiv.org/abs/2210.15257: the denoising loss inside the boxes of
salient objects is multiplied by (1 + w_l), w_l = 0.1.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ernie_vilg_jax.diffusion.schedule import Kind, Schedule


def loss_per_sample(
    prediction: jax.Array,
    target: jax.Array,
    loss_weight: jax.Array | None = None,
    weight_on: Literal["error", "residual"] = "error",
) -> jax.Array:
    """Mean squared error of each sample, in float32.

    Args:
      prediction: [B, h, w, C] of any float dtype.
      target: [B, h, w, C].
      loss_weight: [B, h, w] weight of each position, 1 where nothing is salient; None means 1 everywhere. The mean is
        over all positions, not divided by the sum of weights, so salient objects raise the loss of their sample.
      weight_on: 'error' multiplies the squared error (the default); 'residual' multiplies prediction - target
        before squaring, so that the weight counts twice.

    Returns:
      [B] float32.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, but target has {target.shape}.")
    if weight_on not in ("error", "residual"):
        raise ValueError(f"weight_on must be 'error' or 'residual', but is {weight_on!r}.")
    error = jnp.square(prediction.astype(jnp.float32) - target.astype(jnp.float32))
    if loss_weight is not None:
        if loss_weight.shape != prediction.shape[:-1]:
            raise ValueError(f"loss_weight has shape {loss_weight.shape}, but must have {prediction.shape[:-1]}.")
        weight = loss_weight.astype(jnp.float32)[..., None]
        error *= weight if weight_on == "error" else jnp.square(weight)
    return jnp.mean(error, axis=tuple(range(1, error.ndim)))


def min_snr_weights(schedule: Schedule, gamma: float, kind: Kind) -> np.ndarray:
    """[T] float64: the weight of the squared error of a prediction of `kind` at each timestep.

    Min-SNR (https://arxiv.org/abs/2303.09556): the squared error of x0 has weight min(SNR, gamma),
    SNR = alpha^2 / sigma^2. Squared errors of epsilon are SNR times as large, those of v SNR + 1 times.
    """
    snr = np.exp(schedule.log_snr)
    return np.minimum(snr, gamma) / {"x0": np.ones_like(snr), "epsilon": snr, "v": snr + 1}[kind]
