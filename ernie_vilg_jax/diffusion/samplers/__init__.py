"""Samplers turn predictions into an image. A sampler sees only `predict(x, t) -> (x0, epsilon)`.

A sampler owns the list of timesteps that it visits and its state between steps, the carry. It may call `predict` once
per step, several times (Heun), or use earlier predictions kept in the carry (multi-step solvers). It does not know
which expert predicts: see `sampling`.
"""

from dataclasses import fields
from typing import Any

from ernie_vilg_jax.diffusion.samplers.base import Carry, Discrete, Sampler
from ernie_vilg_jax.diffusion.samplers.ddim import DDIM, DDPM
from ernie_vilg_jax.diffusion.samplers.euler import Euler, Heun
from ernie_vilg_jax.diffusion.samplers.multistep import DPMSolverPP2M, UniPC
from ernie_vilg_jax.diffusion.samplers.time_grids import GRIDS, time_grid
from ernie_vilg_jax.diffusion.schedule import Schedule

__all__ = [
    "DDIM",
    "DDPM",
    "GRIDS",
    "SAMPLERS",
    "Carry",
    "DPMSolverPP2M",
    "Euler",
    "Heun",
    "Sampler",
    "UniPC",
    "make_sampler",
    "time_grid",
]

SAMPLERS: dict[str, type[Discrete]] = {
    "ddpm": DDPM,
    "ddim": DDIM,
    "euler": Euler,
    "heun": Heun,
    "dpmpp_2m": DPMSolverPP2M,
    "unipc": UniPC,
}
"""Name -> constructor(schedule, timesteps, **options)."""


def make_sampler(
    name: str, schedule: Schedule, steps: int, *, grid: str = "", start: float = 1.0, **options: Any
) -> Sampler:
    """The sampler of that name on a time grid.

    Args:
      name: one of `SAMPLERS`.
      schedule: that of training.
      steps: 1..T; one prediction each, two with Heun.
      grid: one of `GRIDS`; "" is the sampler's own choice.
      start: in (0, 1]; below 1 only this last share of the steps is done, and sampling begins with an image noised to
        `timesteps[0]` of the returned sampler.
      options: fields of the sampler, such as eta for ddim.

    Raises ValueError naming the invalid argument and the valid values.
    """
    if name not in SAMPLERS:
        raise ValueError(f"the sampler must be one of {', '.join(SAMPLERS)}, but is {name!r}.")
    constructor = SAMPLERS[name]
    known = [field.name for field in fields(constructor) if field.name not in ("schedule", "timesteps")]
    for option in options:
        if option not in known:
            raise ValueError(f"sampler {name!r} has no option {option!r}; it has {', '.join(known) or 'none'}.")
    if not 0 < start <= 1:
        raise ValueError(f"start must be above 0 and at most 1, which is all steps, but is {start}.")
    timesteps = time_grid(grid or constructor.grid, steps, schedule)
    left = max(1, int(steps * start + 0.5))
    return constructor(schedule, timesteps[steps - left :], **options)
