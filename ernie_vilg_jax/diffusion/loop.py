"""The sampling loop over experts: one program, which switches experts where the timesteps change stage.

    loop over stages, noisiest first                       carry = sampler state (latents, history)
    +------------------------------------------------------------------------------------+
    |  stage n-1                        stage n-2                          stage 0       |
    |  +---------------------------+    +---------------------------+     +-----------+  |
    |  | params = switch(n-1):     |    | params = switch(n-2):     |     |           |  |
    |  |   experts[0] ... [n-1]    |    |   experts[0] ... [n-1]    |     |           |  |
    |  | loop over its steps:      |--->| loop over its steps:      |-...-|           |--+--> latents
    |  |   d = apply(params, x, t) |    |   d = apply(params, x, t) |     |           |  |
    |  |   carry = sampler.step(.) |    |   carry = sampler.step(.) |     |           |  |
    |  +---------------------------+    +---------------------------+     +-----------+  |
    +------------------------------------------------------------------------------------+

The switch is outside the loop over steps, and selects parameters, not networks: inside, it would copy a whole expert
every step, and a switch over ten networks compiles ten of them. Here the network is compiled once, and each image needs
at most n - 1 switches of experts.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ernie_vilg_jax.diffusion.samplers import Sampler
from ernie_vilg_jax.diffusion.schedule import Denoised
from ernie_vilg_jax.diffusion.stages import Stages

Apply = Callable[[Any, jax.Array, jax.Array], Denoised]
"""apply(params, x [B, ...], t int32 [B]) -> (x0, epsilon) [B, ...]."""


def sample(
    experts: Sequence[Any],
    apply: Apply,
    stages: Stages,
    sampler: Sampler,
    latents: jax.Array,
    key: jax.Array,
    course: tuple[Any, Any] | None = None,
) -> jax.Array:
    """Runs `sampler` from noise to a clean sample, each step with the expert of its timestep.

    Meant to be jitted with the experts as arguments. `stages` is static, and so is `sampler` without a `course`.

    Args:
      experts: n pytrees of parameters with equal structure, shapes and dtypes; expert i is in charge of stage i.
      apply: the network, with guidance and text already in it.
      stages: the division of the timesteps into n stages.
      sampler: its timesteps decide how many steps each stage has; a stage without steps costs nothing.
      latents: [B, ...] unit-variance noise.
      key: randomness of the steps (deterministic samplers need none), for the batch or [B]; fold_in(key, i) for step i.
      course: `course_of` the stages and the sampler's timesteps, if both are arguments of the program.

    Returns:
      [B, ...] float32.
    """
    if len(experts) != stages.n:
        raise ValueError(f"{stages.n} stages need {stages.n} experts, but {len(experts)} were given.")

    rows, count = course_of(stages, sampler.timesteps) if course is None else course
    rows = jnp.asarray(rows)

    def run(place: jax.Array, carry: Any) -> Any:
        stage, first, end = rows[place]
        return run_stage(pick(experts, stage), apply, sampler, carry, first, end, key)

    return sampler.finish(jax.lax.fori_loop(0, count, run, sampler.init(latents)))


def course_of(stages: Stages, timesteps: np.ndarray) -> tuple[np.ndarray, int]:
    """`visits` with rows for all stages, [n, 3] int32, and how many of them there are."""
    found = visits(stages, timesteps)
    return np.pad(found, ((0, stages.n - len(found)), (0, 0))), len(found)


def visits(stages: Stages, timesteps: np.ndarray) -> np.ndarray:
    """The stages that `timesteps` [S] (descending) pass, in that order: [V, 3] int32 (stage, first step, end step).

    Steps first..end - 1 are the stage's. Stages without a step are left out.
    """
    stage_of_step = stages.stage_of(np.asarray(timesteps))
    if np.any(np.diff(stage_of_step) > 0):
        raise ValueError("timesteps must descend, so that each expert is needed in one run of steps only.")
    first = np.flatnonzero(np.diff(stage_of_step, prepend=-1))
    end = np.append(first[1:], len(stage_of_step))
    return np.stack([stage_of_step[first], first, end], axis=1).astype(np.int32)


def pick(experts: Sequence[Any], stage: jax.Array) -> Any:
    """The parameters of the expert of `stage`, by an n-way switch (none for a single expert)."""
    if len(experts) == 1:
        return experts[0]
    return jax.lax.switch(stage, [lambda expert=expert: expert for expert in experts])


def run_stage(
    params: Any,
    apply: Apply,
    sampler: Sampler,
    carry: Any,
    first: jax.typing.ArrayLike,
    end: jax.typing.ArrayLike,
    key: jax.Array,
) -> Any:
    """Steps first..end - 1 of `sampler` with one expert: carry to carry.

    The part of `sample` between two switches of experts. Its bounds may be traced, so that one compiled program serves
    all stages if the experts are not in memory together.
    """

    def body(i: jax.Array, carry: Any) -> Any:
        return run_step(params, apply, sampler, carry, i, key)

    return jax.lax.fori_loop(first, end, body, carry)


def run_step(params: Any, apply: Apply, sampler: Sampler, carry: Any, i: jax.Array, key: jax.Array) -> Any:
    """Step i of `sampler` with one expert: carry to carry. `key` is that of all steps, one or [B] (`fresh_noise`)."""

    def predict(x: jax.Array, t: jax.Array) -> Denoised:
        return apply(params, x, jnp.broadcast_to(jnp.asarray(t, jnp.int32), (x.shape[0],)))

    of_step = jax.vmap(jax.random.fold_in, (0, None)) if key.ndim else jax.random.fold_in
    return sampler.step(predict, carry, i, of_step(key, i))
