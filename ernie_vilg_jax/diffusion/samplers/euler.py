"""Euler and Heun: the probability flow as an ordinary differential equation, in the noise level k = sigma / alpha.

With y = x / alpha the flow is dy / dk = e(x, t) (Karras et al., https://arxiv.org/abs/2206.00364, with s(t) = alpha).
Clean is k = 0, where alpha = 1.
"""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from ernie_vilg_jax.diffusion.guidance import Denoise
from ernie_vilg_jax.diffusion.samplers.base import Discrete, Latents, row


@dataclass(frozen=True, eq=False)
class Euler(Discrete):
    """y' = y + (k' - k) * e: the same map as DDIM without fresh noise, written in the noise level. First order."""

    @cached_property
    def moves(self) -> np.ndarray:
        """[S] float64: k' - k of each step."""
        return np.diff(self.sigmas / self.alphas)

    def step(self, denoise: Denoise, carry: Latents, i: jax.Array, key: jax.Array) -> Latents:
        epsilon = denoise(carry.x, self.time(i)).astype(jnp.float32)
        y = carry.x / row(self.alphas, i) + row(self.moves, i) * epsilon
        return Latents(row(self.alphas[1:], i) * y)


@dataclass(frozen=True, eq=False)
class Heun(Discrete):
    """Euler, then again with the mean of the slopes at both ends: two answers of the denoiser a step. Second order.

    Karras et al., algorithm 1, without its fresh noise. At clean no network knows the slope, so the last step is plain
    Euler, as in the paper; its second answer is for where the first was, and changes nothing.

    A step runs whole with the expert of the timestep that it starts at. Its second answer is for the next timestep,
    which may lie in the next stage; the same expert gives it.
    """

    @cached_property
    def moves(self) -> np.ndarray:
        """[S] float64: k' - k of each step."""
        return np.diff(self.sigmas / self.alphas)

    @cached_property
    def seconds(self) -> np.ndarray:
        """[S] int: where the second answer of each step lies, as a place in `timesteps`."""
        return np.minimum(np.arange(len(self.timesteps)) + 1, len(self.timesteps) - 1)

    def step(self, denoise: Denoise, carry: Latents, i: jax.Array, key: jax.Array) -> Latents:
        y, move = carry.x / row(self.alphas, i), row(self.moves, i)
        second = jnp.asarray(self.seconds)[i]
        last = second == i

        # A loop of two turns, so that the network is compiled once.
        def ask(turn: jax.Array, held: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
            x, _, slope = held
            epsilon = denoise(x, self.time(jnp.where(turn == 0, i, second))).astype(jnp.float32)
            guess = row(self.alphas, second) * (y + move * epsilon)
            return jnp.where(last, x, guess), slope, epsilon

        nothing = jnp.zeros_like(y)
        _, slope, slope_there = jax.lax.fori_loop(0, 2, ask, (carry.x, nothing, nothing))
        return Latents(row(self.alphas[1:], i) * (y + move * (slope + slope_there) / 2))
