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

    Karras et al., algorithm 1, without its fresh noise. No network knows the slope at clean, so there the paper's last
    step is plain Euler. Here it takes its second slope at timestep 0, the cleanest that there is, and goes on to clean
    with it: as many answers as the other steps, and second order as well.

    A step runs whole with the expert of the timestep that it starts at. Its second answer is for the next timestep,
    which may lie in the next stage; the same expert gives it.
    """

    @cached_property
    def ends(self) -> np.ndarray:
        """[S] int32: the timestep of the second answer of each step."""
        return np.append(self.timesteps[1:], np.int32(0))

    @cached_property
    def moves(self) -> tuple[np.ndarray, np.ndarray]:
        """[S] float64 each: k' - k up to the second answer, and what is left from there (nothing but in the last)."""
        noise_levels = self.schedule.sigmas / self.schedule.alphas
        rest = np.zeros(len(self.timesteps))
        rest[-1] = -noise_levels[0]
        return noise_levels[self.ends] - noise_levels[self.timesteps], rest

    def step(self, denoise: Denoise, carry: Latents, i: jax.Array, key: jax.Array) -> Latents:
        y = carry.x / row(self.alphas, i)
        move, rest = (row(table, i) for table in self.moves)
        times = jnp.stack([self.time(i), jnp.asarray(self.ends)[i]])
        alpha_there = row(self.schedule.alphas[self.ends], i)

        # A loop of two turns, so that the network is compiled once.
        def slope(turn: jax.Array, held: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
            x, _, last = held
            epsilon = denoise(x, times[turn]).astype(jnp.float32)
            return alpha_there * (y + move * epsilon), last, epsilon

        _, first, second = jax.lax.fori_loop(0, 2, slope, (carry.x, jnp.zeros_like(y), jnp.zeros_like(y)))
        return Latents(row(self.alphas[1:], i) * (y + move * (first + second) / 2 + rest * second))
