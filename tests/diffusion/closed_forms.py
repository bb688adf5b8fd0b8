"""Distributions whose best denoiser is known in closed form, for jax and, in float64, for NumPy."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ernie_vilg_jax.diffusion.guidance import Predict
from ernie_vilg_jax.diffusion.loop import run_stage
from ernie_vilg_jax.diffusion.samplers import Sampler
from ernie_vilg_jax.diffusion.schedule import Denoised, Schedule, make_schedule

LINEAR = make_schedule("linear", 1000, 1e-4, 2e-2)
SCALED = make_schedule("scaled_linear", 1000, 0.00085, 0.012)
FINE = make_schedule("linear", 20_000, 1e-7, 1e-3)
"""Nearly continuous: room for orders of convergence."""
ZERO = make_schedule("linear", 1000, 1e-4, 2e-2, zero_terminal_snr=True)
"""No signal at all at the last timestep: alpha = 0."""
FINE_ZERO = make_schedule("linear", 20_000, 1e-7, 1e-3, zero_terminal_snr=True)
MU, S = 0.7, 0.4
CENTRES = np.random.default_rng(0).standard_normal((6, 8))
SPREAD = 0.4

Epsilon = Callable[[Any, Any, Any, Any], Any]
"""epsilon(namespace, x, alpha, sigma): E[noise | x], in the arithmetic of numpy or jax.numpy."""


def gaussian(namespace: Any, x: Any, alpha: Any, sigma: Any, mu: float = MU, s: float = S) -> Any:
    """x0 ~ N(mu, s^2): x ~ N(alpha mu, alpha^2 s^2 + sigma^2)."""
    return sigma * (x - alpha * mu) / (alpha**2 * s**2 + sigma**2)


def mixture(namespace: Any, x: Any, alpha: Any, sigma: Any) -> Any:
    """x0 [8] ~ six Gaussians of equal weight at CENTRES, each as wide as SPREAD: not linear in x."""
    variance = alpha**2 * SPREAD**2 + sigma**2
    away = x[:, None] - alpha * namespace.asarray(CENTRES, x.dtype)
    distance = 0.5 * (away**2).sum(-1) / variance
    near = namespace.exp(distance.min(-1, keepdims=True) - distance)
    weights = near / near.sum(-1, keepdims=True)
    return sigma * (weights[..., None] * away).sum(1) / variance


def gaussian_v(x: jax.Array, alpha: jax.Array, sigma: jax.Array, s: float = S) -> jax.Array:
    """The best prediction of v for `gaussian`'s data, without dividing by alpha or sigma."""
    from_mean = (x - alpha * MU) / (alpha**2 * s**2 + sigma**2)
    return alpha * sigma * from_mean - sigma * (MU + alpha * s**2 * from_mean)


def at_a_point(namespace: Any, x: Any, alpha: Any, sigma: Any) -> Any:
    """x0 = MU."""
    return gaussian(namespace, x, alpha, sigma, s=0.0)


@cache
def in_jax(epsilon: Epsilon, schedule: Schedule) -> Predict:
    """predict(x, t) for samplers, from a network that predicts epsilon."""

    def predict(x: jax.Array, t: jax.Array) -> Denoised:
        alpha, sigma = (a.reshape(()) for a in schedule.alpha_sigma(jnp.asarray(t).reshape(-1)[0], 1))
        return schedule.denoised(x, epsilon(jnp, x, alpha, sigma), t)

    return predict


@cache
def v_in_jax(schedule: Schedule, s: float = S) -> Predict:
    """predict(x, t) for samplers, from a network that predicts v of `gaussian`'s data."""

    def predict(x: jax.Array, t: jax.Array) -> Denoised:
        alpha, sigma = (a.reshape(()) for a in schedule.alpha_sigma(jnp.asarray(t).reshape(-1)[0], 1))
        return schedule.denoised(x, gaussian_v(x, alpha, sigma, s), t, "v")

    return predict


def in_numpy(epsilon: Epsilon, schedule: Schedule) -> Callable[[np.ndarray, int], np.ndarray]:
    """denoise(x, t) in float64, t a number."""
    return lambda x, t: epsilon(np, x, schedule.alphas[t], schedule.sigmas[t])


def flow(schedule: Schedule, x: np.ndarray, t: int) -> np.ndarray:
    """The end of the probability flow from x at t, for `gaussian`: its z-score is constant."""
    alpha, sigma = schedule.alphas[t], schedule.sigmas[t]
    return MU + S * (x - alpha * MU) / np.sqrt(alpha**2 * S**2 + sigma**2)


def run(sampler: Sampler, epsilon: Epsilon, schedule: Schedule, latents: Any, *, end: int | None = None) -> np.ndarray:
    """Latents after `end` steps (all of them without it), by the loop of `sampling`."""
    return run_predict(sampler, in_jax(epsilon, schedule), latents, end=end)


def run_predict(sampler: Sampler, predict: Predict, latents: Any, *, end: int | None = None) -> np.ndarray:
    count = len(sampler.timesteps) if end is None else end
    return np.asarray(_steps(sampler, predict, jnp.asarray(latents, jnp.float32), count))


@partial(jax.jit, static_argnames="predict")
def _steps(sampler: Sampler, predict: Predict, latents: jax.Array, end: jax.Array) -> jax.Array:
    """One program for all samplers of a kind."""
    carry = sampler.init(latents)
    return run_stage(None, lambda _, x, t: predict(x, t), sampler, carry, 0, end, jax.random.key(4)).x
