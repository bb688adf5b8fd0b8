"""Slow references of the samplers, in float64 and as in their papers, without the package's tables or code.

reference(denoise, schedule, timesteps, x, noise) -> [S, ...] the latents after each step; `denoise(x, t)` takes and
gives float64, and `noise` [S, ...] is what stochastic ones draw.
"""

from collections.abc import Callable
from math import factorial
from typing import Any

import numpy as np

from ernie_vilg_jax.diffusion.schedule import Schedule


def amplitudes(schedule: Schedule, timesteps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """alpha and sigma at the timesteps, and then of clean: [S + 1] each."""
    return np.append(schedule.alphas[timesteps], 1.0), np.append(schedule.sigmas[timesteps], 0.0)


def ddim(denoise: Any, schedule: Schedule, timesteps: Any, x: Any, noise: Any, eta: float = 0.0) -> list[Any]:
    """Equations 12 and 16 of the DDIM paper, whose `alpha` is the square of this one."""
    alpha, _ = amplitudes(schedule, timesteps)
    states = []
    for i, t in enumerate(timesteps):
        abar, abar_next = alpha[i] ** 2, alpha[i + 1] ** 2
        e = denoise(x, t)
        deviation = eta * np.sqrt((1 - abar_next) / (1 - abar)) * np.sqrt(1 - abar / abar_next)
        x0 = (x - np.sqrt(1 - abar) * e) / np.sqrt(abar)
        x = np.sqrt(abar_next) * x0 + np.sqrt(1 - abar_next - deviation**2) * e + deviation * noise[i]
        states.append(x)
    return states


def ddpm(denoise: Any, schedule: Schedule, timesteps: Any, x: Any, noise: Any, large: bool = False) -> list[Any]:
    """By Bayes: the estimates of x_s from x0 and from x_t, weighted by their precisions."""
    alpha, sigma = amplitudes(schedule, timesteps)
    states = []
    for i, t in enumerate(timesteps):
        ratio = alpha[i] / alpha[i + 1]
        added = 1 - ratio**2
        x0 = (x - sigma[i] * denoise(x, t)) / alpha[i]
        if sigma[i + 1] == 0:
            x = x0
        else:
            precision = 1 / sigma[i + 1] ** 2 + ratio**2 / added
            mean = (alpha[i + 1] * x0 / sigma[i + 1] ** 2 + ratio * x / added) / precision
            x = mean + np.sqrt(added if large else 1 / precision) * noise[i]
        states.append(x)
    return states


def euler(denoise: Any, schedule: Schedule, timesteps: Any, x: Any, noise: Any) -> list[Any]:
    """Algorithm 1 of Karras et al. without its correction, in y = x / alpha over k = sigma / alpha."""
    alpha, sigma = amplitudes(schedule, timesteps)
    states, k = [], sigma / alpha
    for i, t in enumerate(timesteps):
        x0 = x / alpha[i] - k[i] * denoise(x, t)
        slope = (x / alpha[i] - x0) / k[i]
        x = alpha[i + 1] * (x / alpha[i] + (k[i + 1] - k[i]) * slope)
        states.append(x)
    return states


def heun(denoise: Any, schedule: Schedule, timesteps: Any, x: Any, noise: Any) -> list[Any]:
    """Algorithm 1 of Karras et al., in y = x / alpha over k = sigma / alpha."""
    alpha, sigma = amplitudes(schedule, timesteps)
    states, k = [], sigma / alpha
    for i, t in enumerate(timesteps):
        y, slope = x / alpha[i], denoise(x, t)
        end = y + (k[i + 1] - k[i]) * slope
        if k[i + 1] != 0:
            slope_there = denoise(alpha[i + 1] * end, timesteps[i + 1])
            end = y + (k[i + 1] - k[i]) * (0.5 * slope + 0.5 * slope_there)
        x = alpha[i + 1] * end
        states.append(x)
    return states


def dpmpp_2m(denoise: Any, schedule: Schedule, timesteps: Any, x: Any, noise: Any) -> list[Any]:
    """Algorithm 2 of DPM-Solver++."""
    alpha, sigma = amplitudes(schedule, timesteps)
    states: list[Any] = []
    estimates: list[Any] = []
    logs = np.log(alpha[:-1] / sigma[:-1])
    for i, t in enumerate(timesteps):
        estimates.append((x - sigma[i] * denoise(x, t)) / alpha[i])
        if i == len(timesteps) - 1:
            x = estimates[-1]
        else:
            h = logs[i + 1] - logs[i]
            mixed = estimates[-1]
            if i > 0:
                r = (logs[i] - logs[i - 1]) / h
                mixed = (1 + 1 / (2 * r)) * estimates[-1] - 1 / (2 * r) * estimates[-2]
            x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * (np.exp(-h) - 1) * mixed
        states.append(x)
    return states


def unipc(denoise: Any, schedule: Schedule, timesteps: Any, x: Any, noise: Any, order: int = 2) -> list[Any]:
    """UniPC, algorithms 1 and 2 in their form for x0 (appendix A), with B(h) = exp(h) - 1 at h = -(l_b - l_a)."""
    alpha, sigma = amplitudes(schedule, timesteps)
    states: list[Any] = []
    estimates: list[Any] = []
    logs = np.log(alpha[:-1] / sigma[:-1])
    steps = len(timesteps)
    before, orders = x, []

    def update(start: int, base: Any, used: int, newest: Any) -> Any:
        """From timesteps[start] to the next: the predictor without `newest`, the corrector with it."""
        h = -(logs[start + 1] - logs[start])
        ratios = [(logs[start - m] - logs[start]) / -h for m in range(1, used)]
        changes = [(estimates[start - m] - estimates[start]) / r for m, r in enumerate(ratios, 1)]
        if newest is not None:
            ratios, changes = [*ratios, 1.0], [*changes, newest - estimates[start]]
        phi, wanted = np.expm1(h), []
        for n in range(1, len(ratios) + 1):
            phi = phi / h - 1 / factorial(n)
            wanted.append(phi * factorial(n) / np.expm1(h))
        matrix = np.array([[r**n for r in ratios] for n in range(len(ratios))])
        rhos = [0.5] if len(ratios) == 1 else np.linalg.solve(matrix, wanted) if ratios else []
        total = sum((rho * change for rho, change in zip(rhos, changes, strict=True)), np.zeros_like(base))
        plain = sigma[start + 1] / sigma[start] * base - alpha[start + 1] * np.expm1(h) * estimates[start]
        return plain - alpha[start + 1] * np.expm1(h) * total

    for i, t in enumerate(timesteps):
        newest = (x - sigma[i] * denoise(x, t)) / alpha[i]
        if i > 0:
            x = update(i - 1, before, orders[-1], newest)
        estimates.append(newest)
        before = x
        orders.append(min(order, i + 1, steps - i))
        x = newest if i == steps - 1 else update(i, x, orders[-1], None)
        states.append(x)
    return states


REFERENCES: dict[str, Callable[..., list[Any]]] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "euler": euler,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
    "unipc": unipc,
}
