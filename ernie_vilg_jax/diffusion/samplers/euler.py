"""Euler and Heun: the probability flow as an ordinary differential equation, in the noise level k = sigma / alpha.

With y = x / alpha the flow is dy / dk = e(x, t) (Karras et al., https://arxiv.org/abs/2206.00364, with s(t) = alpha).
Clean is k = 0, where alpha = 1. A step y' = y + (k' - k) * e is x' = alpha' * x0 + sigma' * e, without any division.
"""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from ernie_vilg_jax.diffusion.guidance import Predict
from ernie_vilg_jax.diffusion.samplers.base import Discrete, Latents, as_data, row


@as_data
@dataclass(frozen=True, eq=False)
class Euler(Discrete):
    """y' = y + (k' - k) * e: the same map as DDIM without fresh noise. First order."""

    def step(self, predict: Predict, carry: Latents, i: jax.Array, key: jax.Array) -> Latents:
        x0, epsilon = predict(carry.x, self.time(i))
        return Latents(row(self.alphas[1:], i) * x0 + row(self.sigmas[1:], i) * epsilon)


@as_data
@dataclass(frozen=True, eq=False)
class Heun(Discrete):
    """Euler, then again with the mean of the slopes at both ends: two predictions per step. Second order.

    Karras et al., algorithm 1, without its fresh noise. The slope is not defined at clean, so the last step is plain
    Euler, as in the paper; its second prediction repeats the first and is not used. A first step without any signal is
    also plain Euler, because k is infinite there. One such step does not change the order.

    A whole step uses the expert of the timestep that it starts at. Its second prediction is for the next timestep,
    which may lie in the next stage; the same expert makes it.
    """

    tables = (*Discrete.tables, "corrections", "seconds")

    @cached_property
    def corrections(self) -> np.ndarray:
        """[S] float64: alpha' * (k' - k) / 2, the factor of the slope's change over a step in x'."""
        alphas, sigmas = self.alphas, self.sigmas
        signal = alphas[:-1] > 0
        back = np.where(signal, sigmas[:-1] / np.where(signal, alphas[:-1], 1.0), 0.0) * alphas[1:]
        corrections = np.where(signal, (sigmas[1:] - back) / 2, 0.0)
        corrections[-1] = 0.0
        return corrections

    @cached_property
    def seconds(self) -> np.ndarray:
        """[S] int: the index in `timesteps` of the second prediction of each step."""
        return np.minimum(np.arange(len(self.timesteps)) + 1, len(self.timesteps) - 1)

    def step(self, predict: Predict, carry: Latents, i: jax.Array, key: jax.Array) -> Latents:
        second = jnp.asarray(self.seconds)[i]
        last = second == i

        # A loop of two iterations, so that the network is compiled once.
        def ask(turn: jax.Array, held: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            x, end, _, slope = held
            x0, epsilon = predict(x, self.time(jnp.where(turn == 0, i, second)))
            guess = row(self.alphas[1:], i) * x0 + row(self.sigmas[1:], i) * epsilon
            end = jnp.where(turn == 0, guess, end)
            return jnp.where(last, x, end), end, slope, epsilon

        nothing = jnp.zeros_like(carry.x)
        _, end, slope, slope_there = jax.lax.fori_loop(0, 2, ask, (carry.x, nothing, nothing, nothing))
        return Latents(end + row(self.corrections, i) * (slope_there - slope))
