"""The sampler protocol, and the code that the samplers of this folder share."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ernie_vilg_jax.diffusion.guidance import Predict
from ernie_vilg_jax.diffusion.schedule import Schedule

S = TypeVar("S", bound="Discrete")


class Carry(Protocol):
    """The state of a sampler between steps: a pytree of fixed structure, shapes and dtypes."""

    @property
    def x(self) -> jax.Array:
        """The current latents, float32 [B, ...], at the noise of the next step's timestep."""
        ...


class Sampler(Protocol):
    """The loop, in plain Python: `c = init(x); for i in range(S): c = step(predict, c, i, key_i); x = finish(c)`.

    All methods are traceable, with `i` an int32 scalar that may be traced. A sampler is a pytree, and may itself be an
    argument of a compiled program (`as_data`).
    """

    @property
    def timesteps(self) -> np.ndarray:
        """[S] int32 strictly descending: the timestep at which step i starts, which also decides its expert."""
        ...

    def init(self, latents: jax.Array) -> Any:
        """The carry before the first step, from latents [B, ...] at the noise of timesteps[0].

        That is unit-variance noise if timesteps[0] is the last training timestep, and `schedule.add_noise(image,
        noise, timesteps[0])` if sampling starts from an image.
        """
        ...

    def step(self, predict: Predict, carry: Any, i: jax.Array, key: jax.Array) -> Any:
        """Step i, with its own key: from timesteps[i] to timesteps[i + 1], or to clean after the last.

        Fresh noise comes from `fresh_noise(key, x)`: the key may be one for all samples, or one for each.
        """
        ...

    def finish(self, carry: Any) -> jax.Array:
        """The latents at the end, float32 [B, ...]."""
        ...


class Latents(NamedTuple):
    """The carry of a sampler without history."""

    x: jax.Array


@dataclass(frozen=True, eq=False)
class Discrete:
    """A sampler on a list of training timesteps. Coefficients are float64 NumPy tables, one row for each step.

    x = alpha x0 + sigma e throughout; after the last step x is clean, with alpha = 1 and sigma = 0. Before the first,
    alpha may be 0 (`zero_terminal_snr`), so tables must not divide by the alpha at the start of a step.
    """

    schedule: Schedule
    timesteps: np.ndarray
    """[S] int32, strictly descending; may begin anywhere."""

    grid: ClassVar[str] = "trailing"
    """The time grid that suits the sampler best, the default of `make_sampler`."""
    tables: ClassVar[tuple[str, ...]] = ("timesteps", "alphas", "sigmas")
    """The tables that `step` reads: the leaves of the sampler as a pytree."""
    static: ClassVar[tuple[str, ...]] = ()
    """The fields that decide the form of the program, and not just its numbers."""

    def __post_init__(self) -> None:
        timesteps = np.asarray(self.timesteps, np.int32)
        object.__setattr__(self, "timesteps", timesteps)
        if timesteps.ndim != 1 or timesteps.size == 0 or np.any(np.diff(timesteps) >= 0):
            raise ValueError("timesteps must be a non-empty, strictly descending vector.")
        if timesteps[-1] < 0 or timesteps[0] >= self.schedule.num_timesteps:
            raise ValueError(f"timesteps must lie in [0, {self.schedule.num_timesteps}).")

    @cached_property
    def alphas(self) -> np.ndarray:
        """[S + 1] float64: amplitude of the signal before each step, and after the last."""
        return np.append(self.schedule.alphas[self.timesteps], 1.0)

    @cached_property
    def sigmas(self) -> np.ndarray:
        """[S + 1] float64: amplitude of the noise before each step, and after the last."""
        return np.append(self.schedule.sigmas[self.timesteps], 0.0)

    @cached_property
    def leaves(self) -> tuple[Any, ...]:
        """`tables` with rows for all T timesteps, float32 or int32; rows past the last step are never read."""
        rows = self.schedule.num_timesteps - len(self.timesteps)

        def padded(table: np.ndarray) -> np.ndarray:
            dtype = np.int32 if np.issubdtype(table.dtype, np.integer) else np.float32
            return np.pad(table.astype(dtype), [(0, rows)] + [(0, 0)] * (table.ndim - 1))

        return tuple(jax.tree.map(padded, getattr(self, name)) for name in self.tables)

    @property
    def is_data(self) -> bool:
        """Whether its tables are those of a compiled program's argument, the numbers of any sampler of its kind."""
        return "schedule" not in vars(self)

    def init(self, latents: jax.Array) -> Any:
        return Latents(latents.astype(jnp.float32))

    def step(self, predict: Predict, carry: Any, i: jax.Array, key: jax.Array) -> Any:
        raise NotImplementedError

    def finish(self, carry: Any) -> jax.Array:
        return carry.x

    def time(self, i: jax.typing.ArrayLike) -> jax.Array:
        """timesteps[i], int32; i may be traced."""
        return jnp.asarray(self.timesteps)[i]


def as_data(kind: type[S]) -> type[S]:
    """Class decorator: makes samplers pytrees, so that a compiled program can take one as an argument.

    The leaves have the same shapes for any timesteps, so that other steps, grids and options do not recompile. The
    sampler inside the program has `tables` and `static` alone.
    """

    def flatten(sampler: S) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        leaves = tuple(getattr(sampler, name) for name in kind.tables) if sampler.is_data else sampler.leaves
        return leaves, tuple(getattr(sampler, name) for name in kind.static)

    def unflatten(static: tuple[Any, ...], leaves: tuple[Any, ...]) -> S:
        sampler = object.__new__(kind)
        # Not by the fields: a frozen dataclass would compute its tables from them.
        vars(sampler).update(zip((*kind.tables, *kind.static), (*leaves, *static), strict=True))
        return sampler

    jax.tree_util.register_pytree_node(kind, flatten, unflatten)
    return kind


def fresh_noise(key: jax.Array, x: jax.Array) -> jax.Array:
    """Unit-variance noise, float32 of the shape of x [B, ...].

    `key` is one key, or [B] of them: a sample's noise then does not depend on the rest of the batch.
    """
    if key.ndim:
        return jax.vmap(lambda one: jax.random.normal(one, x.shape[1:], jnp.float32))(key)
    return jax.random.normal(key, x.shape, jnp.float32)


def row(table: np.ndarray | jax.Array, i: jax.typing.ArrayLike) -> jax.Array:
    """table[i] in float32; i may be traced."""
    return jnp.asarray(table, jnp.float32)[i]


def check_clip(clip_x0: float | None) -> None:
    if clip_x0 is not None and not clip_x0 > 0:
        raise ValueError(f"clip_x0 must be positive or None, but is {clip_x0}.")
