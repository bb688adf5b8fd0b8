"""Time grids: the timesteps that a sampler visits. All are strictly descending whole numbers in [0, T)."""

from collections.abc import Callable

import numpy as np

from ernie_vilg_jax.diffusion.schedule import Schedule

RHO = 7.0
"""How strongly `karras` crowds its timesteps towards clean; the paper's value."""


def trailing(schedule: Schedule, steps: int) -> np.ndarray:
    """999, 979, ..., 19 for T = 1000 and 50 steps: every step is T / steps long and the first starts at T - 1.

    Sampling starts from pure noise, and latents at T - 1 are the closest to pure noise that training has
    (https://arxiv.org/abs/2305.08891, section 3.3).
    """
    total = schedule.num_timesteps
    return total - 1 - np.arange(steps) * total // steps


def leading(schedule: Schedule, steps: int) -> np.ndarray:
    """980, 960, ..., 0: what DDIM's code calls uniform.

    Its first step takes pure noise for a sample of t = 980, which still holds a little signal.
    """
    return (np.arange(steps) * schedule.num_timesteps // steps)[::-1]


def uniform(schedule: Schedule, steps: int) -> np.ndarray:
    """999 to 0, evenly spaced (rounded): both ends, with steps of about (T - 1) / (steps - 1)."""
    return np.rint(np.linspace(schedule.num_timesteps - 1, 0, steps))


def quadratic(schedule: Schedule, steps: int) -> np.ndarray:
    """999, 959, 921, ..., 3, 1, 0: like `trailing`, but evenly spaced in the root of t, so denser towards clean.

    After DDIM's quadratic grid (https://arxiv.org/abs/2010.02502, appendix D.2), which starts at 0.8 T.
    """
    return _by_power(schedule, steps, 2.0)


def power(schedule: Schedule, steps: int) -> np.ndarray:
    """999, 969, 940, ..., 14, 7, 2: between `trailing` and `quadratic`, evenly spaced in t to the power of 2/3.

    For multi-step samplers: their error is largest in the last steps, where the steps of `trailing` are large relative
    to the remaining noise. `quadratic` makes the first steps too large.
    """
    return _by_power(schedule, steps, 1.5)


def karras(schedule: Schedule, steps: int) -> np.ndarray:
    """Evenly spaced in the seventh root of the noise level sigma / alpha, from T - 1 to 0, at the nearest timesteps.

    https://arxiv.org/abs/2206.00364, equation 5. Nearest in the logarithm of the noise level; if several would fall on
    one timestep, they take the next ones. If no signal is left at T - 1, the level there is infinite: it comes first,
    and the others are spaced over the timesteps before it.
    """
    if schedule.alphas[-1] == 0:
        rest = karras(Schedule(schedule.betas[:-1]), steps - 1) if steps > 1 else np.zeros(0)
        return np.append(schedule.num_timesteps - 1, rest)
    levels = schedule.sigmas / schedule.alphas
    roots = np.linspace(levels[-1] ** (1 / RHO), levels[0] ** (1 / RHO), steps)
    return _distinct(np.interp(RHO * np.log(roots), np.log(levels), np.arange(schedule.num_timesteps)))


def _by_power(schedule: Schedule, steps: int, exponent: float) -> np.ndarray:
    return _distinct(schedule.num_timesteps * (1 - np.arange(steps) / steps) ** exponent - 1)


def _distinct(places: np.ndarray) -> np.ndarray:
    """The nearest whole numbers, moved down if they would repeat, and up if that would go below 0."""
    order = np.arange(len(places))
    down = np.minimum.accumulate(np.rint(places) + order) - order
    return np.maximum(down, order[::-1])


Grid = Callable[[Schedule, int], np.ndarray]
"""grid(schedule, steps) -> [steps] timesteps, strictly descending within [0, T), for any steps in 1..T."""
GRIDS: dict[str, Grid] = {
    "trailing": trailing,
    "leading": leading,
    "uniform": uniform,
    "power": power,
    "quadratic": quadratic,
    "karras": karras,
}


def time_grid(name: str, steps: int, schedule: Schedule) -> np.ndarray:
    """[steps] int32: the grid of that name. Raises ValueError for an unknown name or too many steps."""
    if name not in GRIDS:
        raise ValueError(f"the time grid must be one of {', '.join(GRIDS)}, but is {name!r}.")
    total = schedule.num_timesteps
    if not 1 <= steps <= total:
        raise ValueError(f"steps must lie between 1 and the {total} training timesteps, but is {steps}.")
    return GRIDS[name](schedule, steps).astype(np.int32)
