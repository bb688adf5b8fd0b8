"""The loop over experts against a plain Python loop, and the structure of its program."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.diffusion.loop import run_stage, sample, visits
from ernie_vilg_jax.diffusion.samplers import DDIM, Sampler, time_grid
from ernie_vilg_jax.diffusion.schedule import Denoised, make_schedule
from ernie_vilg_jax.diffusion.stages import Stages, make_stages

SCHEDULE = make_schedule("linear", 1000, 1e-4, 2e-2)
LATENTS = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
KEY = jax.random.key(7)
CUTS = [("uniform", 1), ("uniform", 4), ("uniform", 10), ("log_snr", 10), ((1, 2, 990), 4)]


def make_experts(n: int) -> tuple[dict[str, jax.Array], ...]:
    return tuple(
        {"scale": jnp.float32(0.3 + 0.1 * k), "shift": jax.random.normal(jax.random.key(k), (3,))} for k in range(n)
    )


def apply(params: dict[str, jax.Array], x: jax.Array, t: jax.Array) -> Denoised:
    assert t.shape == (x.shape[0],)
    epsilon = jnp.tanh(params["scale"] * x + params["shift"]) + t[:, None, None, None] / 5000
    return SCHEDULE.denoised(x, epsilon, t)


def sample_reference(experts, apply, stages: Stages, sampler: Sampler, latents: jax.Array, key: jax.Array) -> jax.Array:
    @jax.jit
    def step(params, carry, i: int, key: jax.Array):
        return sampler.step(lambda x, t: apply(params, x, jnp.full((x.shape[0],), t)), carry, jnp.asarray(i), key)

    carry = sampler.init(latents)
    for i, t in enumerate(sampler.timesteps.tolist()):
        carry = step(experts[stages.stage_of(t)], carry, i, jax.random.fold_in(key, i))
    return sampler.finish(carry)


class History(NamedTuple):
    x: jax.Array
    epsilon: jax.Array
    used: jax.Array


class TwoStep:
    """DDIM on an extrapolated epsilon: like any multi-step solver it needs the prediction of the previous step."""

    def __init__(self, timesteps: np.ndarray) -> None:
        self.ddim = DDIM(SCHEDULE, timesteps)
        self.timesteps = self.ddim.timesteps

    def init(self, latents: jax.Array) -> History:
        return History(latents, jnp.zeros_like(latents), jnp.zeros((), jnp.int32))

    def step(self, predict, carry: History, i: jax.Array, key: jax.Array) -> History:
        epsilon = predict(carry.x, jnp.asarray(self.timesteps)[i]).epsilon
        used = jnp.where(carry.used > 0, 1.5 * epsilon - 0.5 * carry.epsilon, epsilon)
        x = self.ddim.step(lambda x, t: SCHEDULE.denoised(x, used, t), self.ddim.init(carry.x), i, key).x
        return History(x, epsilon, carry.used + 1)

    def finish(self, carry: History) -> jax.Array:
        return carry.x


class Trace(NamedTuple):
    x: jax.Array
    answers: jax.Array


class Recorder:
    """Not a sampler: records the prediction of each step."""

    def __init__(self, timesteps: np.ndarray) -> None:
        self.timesteps = timesteps

    def init(self, latents: jax.Array) -> Trace:
        return Trace(latents, jnp.full((len(self.timesteps), 2), -1.0))

    def step(self, predict, carry: Trace, i: jax.Array, key: jax.Array) -> Trace:
        answer = predict(carry.x, jnp.asarray(self.timesteps)[i])
        return Trace(carry.x, carry.answers.at[i].set(answer))

    def finish(self, carry: Trace) -> jax.Array:
        return carry.answers


@pytest.mark.parametrize(("spec", "n"), CUTS)
@pytest.mark.parametrize("steps", [1, 6, 50])
def test_each_step_gets_the_expert_and_timestep_it_should(spec, n: int, steps: int) -> None:
    stages = make_stages(spec, n, SCHEDULE)
    timesteps = time_grid("uniform", steps, SCHEDULE)

    def say_who_and_when(params: jax.Array, x: jax.Array, t: jax.Array) -> Any:
        return jnp.stack([params, t[0].astype(jnp.float32)])

    experts = tuple(jnp.float32(k) for k in range(n))
    run = jax.jit(lambda experts: sample(experts, say_who_and_when, stages, Recorder(timesteps), LATENTS, KEY))
    said = run(experts)
    np.testing.assert_array_equal(said[:, 0], stages.stage_of(timesteps))
    np.testing.assert_array_equal(said[:, 1], timesteps)


@pytest.mark.parametrize(("spec", "n"), [("uniform", 1), ("log_snr", 10), ((1, 2, 990), 4)])
@pytest.mark.parametrize(
    "sampler",
    [
        DDIM(SCHEDULE, time_grid("trailing", 20, SCHEDULE)),
        DDIM(SCHEDULE, time_grid("leading", 9, SCHEDULE), eta=1.0),
        TwoStep(time_grid("uniform", 20, SCHEDULE)),
    ],
    ids=["ddim", "ddim-eta", "two-step"],
)
def test_equals_a_python_loop(spec, n: int, sampler: Sampler) -> None:
    stages, experts = make_stages(spec, n, SCHEDULE), make_experts(n)
    got = jax.jit(lambda experts: sample(experts, apply, stages, sampler, LATENTS, KEY))(experts)
    assert got.dtype == jnp.float32
    expected = sample_reference(experts, apply, stages, sampler, LATENTS, KEY)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_equal_experts_are_one_model() -> None:
    expert = make_experts(1)
    sampler = DDIM(SCHEDULE, time_grid("trailing", 12, SCHEDULE))
    one = sample(expert, apply, Stages((), 1000), sampler, LATENTS, KEY)
    ten = sample(expert * 10, apply, make_stages("uniform", 10, SCHEDULE), sampler, LATENTS, KEY)
    np.testing.assert_allclose(one, ten, rtol=1e-6, atol=1e-6)


def test_visits_leave_out_stages_without_steps() -> None:
    stages = Stages((10, 20, 500), 1000)
    np.testing.assert_array_equal(visits(stages, np.array([999, 600, 15])), [[3, 0, 2], [1, 2, 3]])
    np.testing.assert_array_equal(visits(stages, np.array([3])), [[0, 0, 1]])
    with pytest.raises(ValueError, match="descend"):
        visits(stages, np.array([3, 999]))


def test_one_compiled_stage_serves_all_stages() -> None:
    stages, experts = make_stages("uniform", 4, SCHEDULE), make_experts(4)
    sampler = DDIM(SCHEDULE, time_grid("trailing", 10, SCHEDULE))
    step = jax.jit(lambda params, carry, first, end: run_stage(params, apply, sampler, carry, first, end, KEY))
    carry = sampler.init(LATENTS)
    for stage, first, end in visits(stages, sampler.timesteps):
        carry = step(experts[stage], carry, first, end)
    assert step._cache_size() == 1  # type: ignore[attr-defined]
    expected = sample(experts, apply, stages, sampler, LATENTS, KEY)
    np.testing.assert_allclose(sampler.finish(carry), expected, rtol=1e-5, atol=1e-5)


def test_wrong_number_of_experts_is_refused() -> None:
    sampler = DDIM(SCHEDULE, time_grid("trailing", 5, SCHEDULE))
    with pytest.raises(ValueError, match="4 stages need 4 experts, but 3"):
        sample(make_experts(3), apply, make_stages("uniform", 4, SCHEDULE), sampler, LATENTS, KEY)


def equations(jaxpr: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All equations of a jaxpr, including nested ones, each with the names of the enclosing primitives."""
    for equation in jaxpr.eqns:
        yield path, equation
        for inner in jax.tree.leaves(tuple(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            if hasattr(inner, "eqns"):
                yield from equations(inner, (*path, equation.primitive.name))
            elif hasattr(inner, "jaxpr"):
                yield from equations(inner.jaxpr, (*path, equation.primitive.name))


def trace(n: int) -> list[tuple[tuple[str, ...], Any]]:
    stages, sampler = make_stages("uniform", n, SCHEDULE), DDIM(SCHEDULE, time_grid("trailing", 50, SCHEDULE))
    closed = jax.make_jaxpr(lambda experts: sample(experts, apply, stages, sampler, LATENTS, KEY))(make_experts(n))
    return list(equations(closed.jaxpr))


@pytest.mark.parametrize("n", [4, 10])
def test_the_program_holds_one_n_way_switch_inside_its_loop_over_stages(n: int) -> None:
    found = trace(n)
    switches = [(path, e) for path, e in found if e.primitive.name == "cond"]
    assert len(switches) == 1
    path, switch = switches[0]
    assert len(switch.params["branches"]) == n
    assert "scan" in path
    # Inside the loop over steps it would copy an expert's parameters at every step.
    assert "while" not in path
    # The network itself is in the loop over steps, once, for any number of experts.
    networks = [path for path, e in found if e.primitive.name == "tanh"]
    assert len(networks) == 1
    assert "scan" in networks[0]
    assert "while" in networks[0]


def test_a_single_expert_needs_no_switch() -> None:
    found = trace(1)
    assert not [e for _, e in found if e.primitive.name == "cond"]
    assert len([e for _, e in found if e.primitive.name == "tanh"]) == 1
