"""Samplers: how the answers of a denoiser become a picture. A sampler sees `denoise(x, t) -> epsilon` and nothing else.

A sampler owns the list of timesteps that it visits and whatever it must remember from step to step, its carry. It may
call `denoise` once a step, several times (Heun), or use earlier answers kept in the carry (multi-step solvers).
Which expert answers is not its business: see `sampling`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ernie_vilg_jax.diffusion.guidance import Denoise
from ernie_vilg_jax.diffusion.schedule import Schedule


class Carry(Protocol):
    """What a sampler hands from step to step: a pytree of fixed structure, shapes and dtypes."""

    @property
    def x(self) -> jax.Array:
        """The latents as they are now, float32 [B, ...]."""
        ...


class Sampler(Protocol):
    """The loop, in plain Python: `c = init(x); for i in range(S): c = step(denoise, c, i, key_i); x = finish(c)`.

    All methods are traceable, with `i` an int32 scalar that may be traced.
    """

    @property
    def timesteps(self) -> np.ndarray:
        """[S] int32 strictly descending: the timestep at which step i starts, and so which expert it needs."""
        ...

    def init(self, latents: jax.Array) -> Any:
        """The carry before the first step, from latents [B, ...] of unit-variance noise."""
        ...

    def step(self, denoise: Denoise, carry: Any, i: jax.Array, key: jax.Array) -> Any:
        """Step i, with a key of its own: from timesteps[i] to timesteps[i + 1], or to clean after the last."""
        ...

    def finish(self, carry: Any) -> jax.Array:
        """The latents at the end, float32 [B, ...]."""
        ...


def time_grid(name: str, steps: int, num_timesteps: int) -> np.ndarray:
    """[steps] int32 timesteps, strictly descending within [0, T).

    For T = 1000 and 50 steps:

    - 'trailing': 999, 979, ..., 19. Every step is T / steps long and the first starts at T - 1. The default: there the
      latents are as near to pure noise as training ever made them, and pure noise is what sampling starts from
      (https://arxiv.org/abs/2305.08891, section 3.3).
    - 'leading': 980, 960, ..., 0. What DDIM's code calls uniform. Its first step takes pure noise for a sample of
      t = 980, which still holds a little signal.
    - 'uniform': 999 to 0 evenly (rounded): both ends, with steps of about (T - 1) / (steps - 1).
    """
    if not 1 <= steps <= num_timesteps:
        raise ValueError(f"steps must lie between 1 and the {num_timesteps} training timesteps, but is {steps}.")
    k = np.arange(steps)
    if name == "trailing":
        grid = num_timesteps - 1 - k * num_timesteps // steps
    elif name == "leading":
        grid = (k * num_timesteps // steps)[::-1]
    elif name == "uniform":
        grid = np.rint(np.linspace(num_timesteps - 1, 0, steps))
    else:
        raise ValueError(f"the time grid must be 'trailing', 'leading' or 'uniform', but is {name!r}.")
    return grid.astype(np.int32)


class DDIMCarry(NamedTuple):
    x: jax.Array


@dataclass(frozen=True, eq=False)
class DDIM:
    """Denoising diffusion implicit models, https://arxiv.org/abs/2010.02502 (equation 12); the paper's, in 50 steps.

    One step from t to s: x0 = (x - sigma_t * e) / alpha_t, then x' = alpha_s * x0 + sqrt(sigma_s^2 - d^2) * e + d * z
    with fresh noise z and d = eta * sigma_s / sigma_t * sqrt(1 - alpha_t^2 / alpha_s^2).
    """

    schedule: Schedule
    timesteps: np.ndarray
    """[S] int32, strictly descending."""
    eta: float = 0.0
    """0 is deterministic, 1 is ancestral sampling (DDPM's variance for these timesteps)."""
    clip_x0: float | None = None
    """Clips the estimated x0 to [-clip_x0, clip_x0], and makes epsilon agree with it. For pixels, not for latents."""

    def __post_init__(self) -> None:
        timesteps = np.asarray(self.timesteps, np.int32)
        object.__setattr__(self, "timesteps", timesteps)
        if timesteps.ndim != 1 or timesteps.size == 0 or np.any(np.diff(timesteps) >= 0):
            raise ValueError("timesteps must be a non-empty, strictly descending vector.")
        if timesteps[-1] < 0 or timesteps[0] >= self.schedule.num_timesteps:
            raise ValueError(f"timesteps must lie in [0, {self.schedule.num_timesteps}).")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie between 0 and 1, but is {self.eta}.")
        if self.clip_x0 is not None and self.clip_x0 <= 0:
            raise ValueError(f"clip_x0 must be positive or None, but is {self.clip_x0}.")

    def init(self, latents: jax.Array) -> DDIMCarry:
        return DDIMCarry(latents.astype(jnp.float32))

    def step(self, denoise: Denoise, carry: DDIMCarry, i: jax.Array, key: jax.Array) -> DDIMCarry:
        x = carry.x
        t, s = jnp.asarray(self.timesteps)[i], jnp.asarray(np.append(self.timesteps[1:], np.int32(-1)))[i]
        epsilon = denoise(x, t).astype(jnp.float32)
        x0 = self.schedule.to_x0(x, epsilon, t)
        if self.clip_x0 is not None:
            x0 = jnp.clip(x0, -self.clip_x0, self.clip_x0)
            epsilon = self.schedule.to_epsilon(x, x0, t, "x0")
        alpha, _ = self.schedule.alpha_sigma(s, x.ndim)
        fresh, kept = (jnp.asarray(amplitudes, jnp.float32)[i] for amplitudes in self._noise())
        x = alpha * x0 + kept * epsilon
        if self.eta:
            x += fresh * jax.random.normal(key, x.shape, jnp.float32)
        return DDIMCarry(x)

    def finish(self, carry: DDIMCarry) -> jax.Array:
        return carry.x

    def _noise(self) -> tuple[np.ndarray, np.ndarray]:
        """Amplitudes of fresh noise and of the predicted noise after each step, [S] float64 each."""
        alphas, sigmas = self.schedule.alphas[self.timesteps], self.schedule.sigmas[self.timesteps]
        next_alphas, next_sigmas = np.append(alphas[1:], 1.0), np.append(sigmas[1:], 0.0)
        fresh = self.eta * next_sigmas / sigmas * np.sqrt(1 - (alphas / next_alphas) ** 2)
        return fresh, np.sqrt(next_sigmas**2 - fresh**2)


SAMPLERS: dict[str, Callable[..., Sampler]] = {"ddim": DDIM}
"""Name -> constructor(schedule, timesteps, **options)."""
