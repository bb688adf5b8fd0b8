"""DPM-Solver++ and UniPC: one prediction per step, combined with those of earlier steps.

Both solve the flow in l = log(alpha / sigma), where the solution is exact except for the estimate x0(l): from a to b,

    x_b = sigma_b / sigma_a * x_a + alpha_b * integral from l_a to l_b of exp(l - l_b) * x0(l) dl

and interpolate the estimates of several steps by a polynomial in place of x0(l). In the last step, to clean, l_b is
infinite and the formula becomes x = x0: that is exact, and needs no earlier estimates. In a first step without any
signal, l_a is minus infinity: later polynomials do not use an estimate so far away.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ernie_vilg_jax.diffusion.guidance import Predict
from ernie_vilg_jax.diffusion.samplers.base import Discrete, as_data, row


class Solver(Discrete):
    """Tables that both solvers use."""

    grid = "power"

    @cached_property
    def logs(self) -> np.ndarray:
        """[S] float64: log(alpha / sigma) before each step; -inf before the first, where alpha may be 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.alphas[:-1] / self.sigmas[:-1])

    @cached_property
    def kept(self) -> np.ndarray:
        """[S] float64: the factor of x in each step; 0 in the last."""
        return self.sigmas[1:] / self.sigmas[:-1]

    @cached_property
    def gained(self) -> np.ndarray:
        """[S] float64: the factor of a constant x0 in each step: alpha_b * (1 - exp(l_a - l_b))."""
        return self.alphas[1:] - self.kept * self.alphas[:-1]


class WithLast(NamedTuple):
    x: jax.Array
    x0: jax.Array
    """The estimate of the previous step; zeros before the first, where it is not used."""


@as_data
@dataclass(frozen=True, eq=False)
class DPMSolverPP2M(Solver):
    """DPM-Solver++(2M), https://arxiv.org/abs/2211.01095 (algorithm 2). Second order; the first step is first order."""

    tables = ("timesteps", "kept", "gained", "reach")

    @cached_property
    def reach(self) -> np.ndarray:
        """[S] float64: how far x0 is extrapolated along its last change: half of this step's l over the last step's."""
        reach, lengths = np.zeros(len(self.timesteps)), np.diff(self.logs)
        reach[1:-1] = lengths[1:] / lengths[:-1] / 2
        return reach

    def init(self, latents: jax.Array) -> WithLast:
        latents = latents.astype(jnp.float32)
        return WithLast(latents, jnp.zeros_like(latents))

    def step(self, predict: Predict, carry: WithLast, i: jax.Array, key: jax.Array) -> WithLast:
        x0, _ = predict(carry.x, self.time(i))
        ahead = x0 + row(self.reach, i) * (x0 - carry.x0)
        return WithLast(row(self.kept, i) * carry.x + row(self.gained, i) * ahead, x0)


class WithHistory(NamedTuple):
    x: jax.Array
    """As predicted; the next step's prediction corrects it."""
    before: jax.Array
    """x at the start of the previous step, corrected."""
    x0: tuple[jax.Array, ...]
    """The estimates of the last `order` steps, newest first; missing ones are zeros, with weight 0."""


@as_data
@dataclass(frozen=True, eq=False)
class UniPC(Solver):
    """The unified predictor-corrector, https://arxiv.org/abs/2302.04867, for x0 and with its B_2(h).

    Each step begins with a correction of the x that the previous step predicted, from the estimate made at the same x:
    one order more, without another prediction. Orders are lower without enough history at the beginning, and in the
    last steps.
    """

    tables = ("timesteps", "kept", "kept_before", "weights")
    static = ("order",)

    order: int = 2
    """Of the predictor: 2 is the authors' choice with guidance, 3 without; 1 to 3."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (1, 2, 3):
            raise ValueError(f"order must be 1, 2 or 3, but is {self.order}.")

    @cached_property
    def kept_before(self) -> np.ndarray:
        """[S] float64: `kept` of the step before; 0 in the first."""
        return np.append(0.0, self.kept[:-1])

    @cached_property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights of the newest and older estimates at step i, float64.

        [S, order + 1] to correct the x that step i starts at (none in row 0), and [S, order] to predict the next.
        """
        count = len(self.timesteps)
        correct, predict = np.zeros((count, self.order + 1)), np.zeros((count, self.order))
        predict[-1, 0] = 1.0
        for i in range(count - 1):
            known = i + 1 if i == 0 or np.isfinite(self.logs[0]) else i
            order = min(self.order, known, count - i)
            length = self.logs[i + 1] - self.logs[i]
            moments = _moments(length, order)
            # Positions of the older estimates, in lengths of this step from its start.
            older = (self.logs[i - order + 1 : i][::-1] - self.logs[i]) / length
            # The paper takes 1/2 if there is only one difference, whatever its moment.
            predict[i, :order] = _differences(older, np.array([0.5]) if order == 2 else moments[:-1])
            corrected = _differences(np.append(older, 1.0), np.array([0.5]) if order == 1 else moments)
            correct[i + 1, : order + 1] = np.append(corrected[-1], corrected[:-1])
        correct[1:] *= self.gained[:-1, None]
        predict *= self.gained[:, None]
        return correct, predict

    def init(self, latents: jax.Array) -> WithHistory:
        latents = latents.astype(jnp.float32)
        return WithHistory(latents, jnp.zeros_like(latents), (jnp.zeros_like(latents),) * self.order)

    def step(self, predict: Predict, carry: WithHistory, i: jax.Array, key: jax.Array) -> WithHistory:
        x0, _ = predict(carry.x, self.time(i))
        estimates = (x0, *carry.x0)
        correct, ahead = (row(table, i) for table in self.weights)
        corrected = row(self.kept_before, i) * carry.before + _sum(correct, estimates)
        x = jnp.where(jnp.asarray(i) > 0, corrected, carry.x)
        return WithHistory(row(self.kept, i) * x + _sum(ahead, estimates), x, estimates[:-1])


def _moments(length: float, count: int) -> np.ndarray:
    """Means of u, u^2, ... u^count over a step, u from 0 to 1 through it, weighted by exp(l - l_b): [count] float64."""
    moments = [-np.expm1(-length)]
    for power in range(1, count + 1):
        moments.append(1 - power / length * moments[-1])
    return np.array(moments[1:]) / moments[0]


def _differences(places: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Weights of the estimates at 0 and at `places` whose sum has these `moments` (of u, u^2, ...): [1 + n] float64."""
    inner = np.linalg.solve(np.vander(places, increasing=True).T, moments) / places if len(places) else places
    return np.append(1 - inner.sum(), inner)


def _sum(weights: jax.Array, arrays: tuple[jax.Array, ...]) -> jax.Array:
    return sum((weight * array for weight, array in zip(weights, arrays, strict=False)), jnp.zeros_like(arrays[0]))
