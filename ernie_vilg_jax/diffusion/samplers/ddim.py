"""DDPM and DDIM: one prediction per step, without history."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ernie_vilg_jax.diffusion.guidance import Predict
from ernie_vilg_jax.diffusion.samplers.base import Discrete, Latents, as_data, check_clip, fresh_noise, row


@as_data
@dataclass(frozen=True, eq=False)
class DDIM(Discrete):
    """Denoising diffusion implicit models, https://arxiv.org/abs/2010.02502 (equation 12); the paper's, in 50 steps.

    One step from t to s: x' = alpha_s * x0 + sqrt(sigma_s^2 - d^2) * e + d * z
    with fresh noise z and d = eta * sigma_s / sigma_t * sqrt(1 - alpha_t^2 / alpha_s^2).
    """

    tables = (*Discrete.tables, "kept", "fresh")
    static = ("clip_x0",)

    eta: float = 0.0
    """0 is deterministic, 1 is ancestral sampling (DDPM's smaller variance for these timesteps)."""
    clip_x0: float | None = None
    """Clips the estimated x0 to [-clip_x0, clip_x0], and makes epsilon agree with it. For pixels, not for latents."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie between 0 and 1, but is {self.eta}.")
        check_clip(self.clip_x0)

    @cached_property
    def fresh(self) -> np.ndarray:
        """[S] float64: amplitude of the fresh noise of each step."""
        alphas, sigmas = self.alphas, self.sigmas
        return self.eta * sigmas[1:] / sigmas[:-1] * np.sqrt(1 - (alphas[:-1] / alphas[1:]) ** 2)

    @cached_property
    def kept(self) -> np.ndarray:
        """[S] float64: amplitude of the predicted noise after each step."""
        return np.sqrt(self.sigmas[1:] ** 2 - self.fresh**2)

    def step(self, predict: Predict, carry: Latents, i: jax.Array, key: jax.Array) -> Latents:
        x0, epsilon = predict(carry.x, self.time(i))
        if self.clip_x0 is not None:
            x0 = jnp.clip(x0, -self.clip_x0, self.clip_x0)
            epsilon = (carry.x - row(self.alphas, i) * x0) / row(self.sigmas, i)
        x = row(self.alphas[1:], i) * x0 + row(self.kept, i) * epsilon
        if self.is_data or self.eta:
            # A branch of its own, so that without noise x is rounded as in a program that has none.
            fresh = row(self.fresh, i)
            x = jax.lax.cond(fresh > 0, lambda x: x + fresh * fresh_noise(key, x), lambda x: x, x)
        return Latents(x)


@as_data
@dataclass(frozen=True, eq=False)
class DDPM(Discrete):
    """Ancestral sampling of denoising diffusion models, https://arxiv.org/abs/2006.11239 (equations 7 and 11).

    One step from t to s draws from q(x_s | x_t, x0) with the estimated x0. With b = 1 - alpha_t^2 / alpha_s^2, the
    variance that noise adds from s to t:
    x' = alpha_s * b / sigma_t^2 * x0 + alpha_t / alpha_s * sigma_s^2 / sigma_t^2 * x + d * z.
    Adds no noise in the last step. Meant for all T steps: it is the worst sampler for few.
    """

    tables = ("timesteps", "coefficients")
    static = ("clip_x0",)

    variance: Literal["small", "large"] = "small"
    """d^2 is b * sigma_s^2 / sigma_t^2, exact for data at one point, or b, exact for data that is N(0, 1)."""
    clip_x0: float | None = None
    """Clips the estimated x0 to [-clip_x0, clip_x0]. For pixels, not for latents."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variance not in ("small", "large"):
            raise ValueError(f"variance must be 'small' or 'large', but is {self.variance!r}.")
        check_clip(self.clip_x0)

    @cached_property
    def coefficients(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coefficients of x0, x and fresh noise in each step: [S] float64 each."""
        ratio = self.alphas[:-1] / self.alphas[1:]
        added, shrunk = 1 - ratio**2, (self.sigmas[1:] / self.sigmas[:-1]) ** 2
        fresh = np.sqrt(added * shrunk if self.variance == "small" else added)
        fresh[-1] = 0.0
        return self.alphas[1:] * added / self.sigmas[:-1] ** 2, ratio * shrunk, fresh

    def step(self, predict: Predict, carry: Latents, i: jax.Array, key: jax.Array) -> Latents:
        x0, _ = predict(carry.x, self.time(i))
        if self.clip_x0 is not None:
            x0 = jnp.clip(x0, -self.clip_x0, self.clip_x0)
        of_x0, of_x, fresh = (row(table, i) for table in self.coefficients)
        return Latents(of_x0 * x0 + of_x * carry.x + fresh * fresh_noise(key, x0))
