"""The router of the mixture of denoising experts: maps each timestep to the expert in charge of it.

The T timesteps are divided into n consecutive stages (ERNIE-ViLG 2.0, https://arxiv.org/abs/2210.15257), and stage i
belongs to expert i. Stage 0 holds t = 0, the least noisy; sampling starts in stage n - 1.

    t        0 ......... b1 ......... b2   ...   b(n-1) ....... T-1
             |  stage 0  |  stage 1   |    ...   |  stage n-1   |
    noise    least                                         most

Units are always training timesteps in [0, T). Trainer, sampler and evaluation all find the expert of a timestep with
a `Stages`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from ernie_vilg_jax.diffusion.schedule import Schedule


@dataclass(frozen=True)
class Stages:
    """[0, num_timesteps) divided into n non-empty consecutive stages. Hashable: may be a static argument of jit."""

    boundaries: tuple[int, ...]
    """First timestep of each stage after stage 0, ascending: n - 1 numbers."""
    num_timesteps: int
    """T: the number of training timesteps."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "boundaries", tuple(int(b) for b in self.boundaries))
        object.__setattr__(self, "num_timesteps", int(self.num_timesteps))
        if self.num_timesteps < 1:
            raise ValueError(f"num_timesteps must be at least 1, but is {self.num_timesteps}.")
        edges = (0, *self.boundaries, self.num_timesteps)
        for boundary in self.boundaries:
            if not 0 <= boundary <= self.num_timesteps:
                raise ValueError(f"stage boundary {boundary} lies outside [0, {self.num_timesteps}].")
        for stage, (lo, hi) in enumerate(pairwise(edges)):
            if lo > hi:
                raise ValueError(f"stage boundaries {self.boundaries} must ascend, but {hi} follows {lo}.")
            if lo == hi:
                raise ValueError(
                    f"stage {stage} of {self.n} would hold no timesteps: it starts and ends at {lo} "
                    f"(boundaries {self.boundaries}, {self.num_timesteps} timesteps)."
                )

    @property
    def n(self) -> int:
        """The number of stages, which is that of experts."""
        return len(self.boundaries) + 1

    @property
    def starts(self) -> np.ndarray:
        """[n] int32: first timestep of each stage."""
        return np.array((0, *self.boundaries), np.int32)

    @property
    def ends(self) -> np.ndarray:
        """[n] int32: one past the last timestep of each stage."""
        return np.array((*self.boundaries, self.num_timesteps), np.int32)

    @overload
    def stage_of(self, t: int) -> int: ...
    @overload
    def stage_of(self, t: np.ndarray | np.integer) -> np.ndarray: ...
    @overload
    def stage_of(self, t: jax.Array) -> jax.Array: ...
    def stage_of(self, t: Any) -> Any:
        """The stage of timestep t in [0, T): the number of boundaries <= t.

        A Python int gives an int, a numpy array int32 of its shape; a jax array, traced or not, int32 of its shape.
        """
        if isinstance(t, jax.Array):
            return jnp.sum(t[..., None] >= jnp.asarray(self.starts[1:]), axis=-1, dtype=jnp.int32)
        outside = (np.asarray(t) < 0) | (np.asarray(t) >= self.num_timesteps)
        if np.any(outside):
            raise ValueError(f"timestep {np.asarray(t)[outside].flat[0]} lies outside [0, {self.num_timesteps}).")
        stage = np.searchsorted(self.starts[1:], t, side="right")
        return int(stage) if isinstance(t, int) else np.asarray(stage, np.int32)

    @overload
    def range_of(self, stage: int) -> tuple[int, int]: ...
    @overload
    def range_of(self, stage: jax.Array) -> tuple[jax.Array, jax.Array]: ...
    def range_of(self, stage: Any) -> Any:
        """The timesteps [lo, hi) of a stage in [0, n): ints for an int, int32 arrays for a jax array, traced or not."""
        if isinstance(stage, jax.Array):
            return jnp.asarray(self.starts)[stage], jnp.asarray(self.ends)[stage]
        if not 0 <= stage < self.n:
            raise ValueError(f"stage {stage} lies outside [0, {self.n}).")
        return int(self.starts[stage]), int(self.ends[stage])

    def draw(self, key: jax.Array, stage: int | jax.Array, shape: Sequence[int]) -> jax.Array:
        """Timesteps drawn uniformly from a stage, int32 of `shape`. An array of stages must broadcast to `shape`."""
        lo, hi = self.range_of(stage)
        # randint reduces 64 random bits, so its modulo bias is below T / 2^64 per timestep.
        return jax.random.randint(key, tuple(shape), lo, hi, jnp.int32)


def make_stages(spec: str | Sequence[int], n: int, schedule: Schedule) -> Stages:
    """Divides the timesteps of `schedule` into n stages.

    spec 'uniform' is the paper's: the stage of t is t * n // T. 'log_snr' gives each stage an equal span of log-SNR;
    its boundaries are the first timesteps at or below the n - 1 inner cuts between log_snr[0] and the last finite
    log_snr.
    A sequence of n - 1 ascending timesteps is taken as the boundaries.
    """
    num_timesteps = schedule.num_timesteps
    if n < 1:
        raise ValueError(f"the number of stages must be at least 1, but is {n}.")
    if n > num_timesteps:
        raise ValueError(f"{n} stages do not fit into {num_timesteps} timesteps: each needs one at least.")
    if isinstance(spec, str):
        if spec == "uniform":
            # t * n // T >= k exactly when t >= k * T / n, so the boundary is that quotient rounded up.
            return Stages(tuple(-(-k * num_timesteps // n) for k in range(1, n)), num_timesteps)
        if spec == "log_snr":
            finite = schedule.log_snr[np.isfinite(schedule.log_snr)]
            cuts = np.linspace(finite[0], finite[-1], n + 1)[1:-1]
            return Stages(tuple(int(np.sum(schedule.log_snr > cut)) for cut in cuts), num_timesteps)
        raise ValueError(f"stages must be 'uniform', 'log_snr' or a tuple of boundaries, but is {spec!r}.")
    if len(spec) != n - 1:
        raise ValueError(f"{n} stages need {n - 1} boundaries, but {len(spec)} were given: {tuple(spec)}.")
    return Stages(tuple(spec), num_timesteps)
