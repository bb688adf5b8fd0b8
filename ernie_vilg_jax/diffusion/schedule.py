"""Noise schedules: the amounts of signal and noise of a sample at each training timestep.

A sample at timestep t in [0, T) is `x_t = alpha_t * x_0 + sigma_t * noise` with `alpha^2 + sigma^2 = 1`
(variance preserving). Timestep -1 means "clean": alpha = 1, sigma = 0. Samplers need it as the end of their last step.

The paper trains with T = 1000, linear betas and epsilon prediction (ERNIE-ViLG 2.0, https://arxiv.org/abs/2210.15257);
it does not print the end points of the betas. 1e-4..2e-2 are those of DDPM (https://arxiv.org/abs/2006.11239);
'scaled_linear' 0.00085..0.012 is latent diffusion's (https://arxiv.org/abs/2112.10752).

The last timestep may have no signal at all (`zero_terminal_snr`, https://arxiv.org/abs/2305.08891). Only `to_x0` of an
epsilon divides by alpha.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

Kind = Literal["epsilon", "x0", "v"]
"""What a network predicts: the noise, the clean sample, or v = alpha * noise - sigma * x0
(https://arxiv.org/abs/2202.00512)."""


class Denoised(NamedTuple):
    """Both parts of x = alpha * x0 + sigma * epsilon by a prediction; both float32 of the shape of x [B, ...]."""

    x0: jax.Array
    epsilon: jax.Array


@dataclass(frozen=True, eq=False)
class Schedule:
    """A variance-preserving schedule, in float64 NumPy tables; arithmetic on samples is float32.

    In all methods below `t` is int, a scalar or [B], and broadcasts over the other dimensions of `x` [B, ...].
    """

    betas: np.ndarray
    """[T] float64: variance added by each step of the forward process, each in (0, 1); the last may be 1."""

    def __post_init__(self) -> None:
        betas = np.array(self.betas, np.float64)
        if betas.ndim != 1 or betas.size == 0:
            raise ValueError(f"betas must be a non-empty vector, but has shape {betas.shape}.")
        if not np.all((betas > 0) & (betas < 1 + (np.arange(betas.size) == betas.size - 1) * (betas == 1))):
            raise ValueError("betas must all lie strictly between 0 and 1; only the last may be 1.")
        betas.flags.writeable = False
        object.__setattr__(self, "betas", betas)

    @property
    def num_timesteps(self) -> int:
        return len(self.betas)

    @cached_property
    def alphas_cumprod(self) -> np.ndarray:
        """[T] float64: product of (1 - beta) up to and with t, the remaining share of the signal's variance at t."""
        return np.cumprod(1.0 - self.betas)

    @cached_property
    def alphas(self) -> np.ndarray:
        """[T] float64: amplitude of the signal at t (the square root of `alphas_cumprod`)."""
        return np.sqrt(self.alphas_cumprod)

    @cached_property
    def sigmas(self) -> np.ndarray:
        """[T] float64: amplitude of the noise at t."""
        return np.sqrt(1.0 - self.alphas_cumprod)

    @cached_property
    def log_snr(self) -> np.ndarray:
        """[T] float64: log(alpha^2 / sigma^2) in nats, strictly falling in t; -inf where no signal is left."""
        with np.errstate(divide="ignore"):
            return np.log(self.alphas_cumprod) - np.log1p(-self.alphas_cumprod)

    def alpha_sigma(self, t: jax.typing.ArrayLike, ndim: int) -> tuple[jax.Array, jax.Array]:
        """Signal and noise amplitudes, float32 [B, 1, ...] (or [1, 1, ...] for a scalar t) with `ndim` dimensions.

        t = -1 gives (1, 0).
        """
        t = jnp.asarray(t)
        if not jnp.issubdtype(t.dtype, jnp.integer):
            raise ValueError(f"t must hold integer timesteps, but its dtype is {t.dtype}.")
        if t.ndim > 1:
            raise ValueError(f"t must be a scalar or a vector, but has shape {t.shape}.")
        shape = (t.size,) + (1,) * (ndim - 1)
        # Row 0 of the tables is timestep -1.
        alphas = jnp.asarray(np.concatenate([[1.0], self.alphas]), jnp.float32)
        sigmas = jnp.asarray(np.concatenate([[0.0], self.sigmas]), jnp.float32)
        return alphas[t + 1].reshape(shape), sigmas[t + 1].reshape(shape)

    def add_noise(self, x0: jax.Array, noise: jax.Array, t: jax.typing.ArrayLike) -> jax.Array:
        """The forward process in closed form: `alpha_t * x0 + sigma_t * noise`, float32 of the shape of x0 [B, ...]."""
        x0, noise = _f32(x0), _f32(noise)
        alpha, sigma = self.alpha_sigma(t, x0.ndim)
        return alpha * x0 + sigma * noise

    def target(self, x0: jax.Array, noise: jax.Array, t: jax.typing.ArrayLike, kind: Kind = "epsilon") -> jax.Array:
        """The target of a network that predicts `kind`, for `add_noise(x0, noise, t)`, float32 [B, ...]."""
        _check_kind(kind)
        x0, noise = _f32(x0), _f32(noise)
        if kind == "epsilon":
            return noise
        if kind == "x0":
            return x0
        alpha, sigma = self.alpha_sigma(t, x0.ndim)
        return alpha * noise - sigma * x0

    def to_x0(self, x: jax.Array, prediction: jax.Array, t: jax.typing.ArrayLike, kind: Kind = "epsilon") -> jax.Array:
        """The clean sample that a prediction of `kind` implies for x at timestep t, float32 [B, ...].

        If alpha is 0, the noise does not determine it: kind 'epsilon' is invalid for such schedules.
        """
        _check_kind(kind)
        x, prediction = _f32(x), _f32(prediction)
        alpha, sigma = self.alpha_sigma(t, x.ndim)
        if kind == "x0":
            return prediction
        if kind == "v":
            return alpha * x - sigma * prediction
        return (x - sigma * prediction) / alpha

    def to_epsilon(
        self, x: jax.Array, prediction: jax.Array, t: jax.typing.ArrayLike, kind: Kind = "epsilon"
    ) -> jax.Array:
        """The noise that a prediction of `kind` implies for x at timestep t, float32 [B, ...].

        At t = -1 a clean sample implies no noise: kind 'x0' gives 0 there, not 0 / 0.
        """
        _check_kind(kind)
        x, prediction = _f32(x), _f32(prediction)
        alpha, sigma = self.alpha_sigma(t, x.ndim)
        if kind == "epsilon":
            return prediction
        if kind == "v":
            return sigma * x + alpha * prediction
        return jnp.where(sigma > 0, (x - alpha * prediction) / jnp.where(sigma > 0, sigma, 1.0), 0.0)

    def denoised(
        self, x: jax.Array, prediction: jax.Array, t: jax.typing.ArrayLike, kind: Kind = "epsilon"
    ) -> Denoised:
        """Both parts of x at timestep t that a prediction of `kind` implies."""
        return Denoised(self.to_x0(x, prediction, t, kind), self.to_epsilon(x, prediction, t, kind))

    def to_v(self, x: jax.Array, prediction: jax.Array, t: jax.typing.ArrayLike, kind: Kind = "epsilon") -> jax.Array:
        """The v that a prediction of `kind` implies for x at timestep t, float32 [B, ...]."""
        if kind == "v":
            return _f32(prediction)
        epsilon = self.to_epsilon(x, prediction, t, kind)
        x0 = self.to_x0(x, prediction, t, kind)
        return self.target(x0, epsilon, t, "v")


def make_schedule(
    name: str, num_timesteps: int, beta_start: float, beta_end: float, zero_terminal_snr: bool = False
) -> Schedule:
    """The schedule with betas from `beta_start` at t = 0 to `beta_end` at t = num_timesteps - 1.

    'linear' spaces the betas evenly, 'scaled_linear' their square roots. With `zero_terminal_snr` the amplitudes of the
    signal are then shifted to 0 at the last timestep, and scaled so that the first is unchanged
    (https://arxiv.org/abs/2305.08891, algorithm 1): training then sees the pure noise that sampling starts from.
    """
    if num_timesteps < 1:
        raise ValueError(f"num_timesteps must be at least 1, but is {num_timesteps}.")
    for field, value in (("beta_start", beta_start), ("beta_end", beta_end)):
        if not 0 < value < 1:
            raise ValueError(f"{field} must lie strictly between 0 and 1, but is {value}.")
    if beta_end < beta_start:
        raise ValueError(f"beta_end ({beta_end}) must not be smaller than beta_start ({beta_start}).")
    if name == "linear":
        betas = np.linspace(beta_start, beta_end, num_timesteps, dtype=np.float64)
    elif name == "scaled_linear":
        betas = np.linspace(beta_start**0.5, beta_end**0.5, num_timesteps, dtype=np.float64) ** 2
    else:
        raise ValueError(f"name must be 'linear' or 'scaled_linear', but is {name!r}.")
    if zero_terminal_snr:
        if num_timesteps < 2:
            raise ValueError("zero_terminal_snr needs at least 2 timesteps.")
        alphas = np.sqrt(np.cumprod(1.0 - betas))
        alphas = (alphas - alphas[-1]) * (alphas[0] / (alphas[0] - alphas[-1]))
        betas = 1.0 - np.square(alphas / np.append(1.0, alphas[:-1]))
    return Schedule(betas)


def _f32(x: jax.typing.ArrayLike) -> jax.Array:
    return jnp.asarray(x, jnp.float32)


def _check_kind(kind: str) -> None:
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(map(repr, get_args(Kind)))}, but is {kind!r}.")
