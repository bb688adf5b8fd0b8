"""DDIM against closed forms: for x0 ~ N(mu, s^2) the best possible epsilon is known, and linear in x."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.diffusion.samplers import DDIM, SAMPLERS, time_grid
from ernie_vilg_jax.diffusion.sampling import run_stage, sample
from ernie_vilg_jax.diffusion.schedule import Schedule, make_schedule
from ernie_vilg_jax.diffusion.stages import Stages

LINEAR = make_schedule("linear", 1000, 1e-4, 2e-2)
SCALED = make_schedule("scaled_linear", 1000, 0.00085, 0.012)
MU, S = 0.7, 0.4


def gaussian_epsilon(schedule: Schedule, mu: float = MU, s: float = S):
    """E[noise | x_t] for x0 ~ N(mu, s^2): x_t ~ N(alpha mu, alpha^2 s^2 + sigma^2)."""

    def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
        alpha, sigma = schedule.alpha_sigma(t, x.ndim)
        return sigma * (x - alpha * mu) / (alpha**2 * s**2 + sigma**2)

    return denoise


def exact_trajectory(schedule: Schedule, timesteps: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
    """The DDIM steps in float64, each as the linear map of x - alpha mu that it is on this distribution."""
    alphas, sigmas = np.append(schedule.alphas[timesteps], 1.0), np.append(schedule.sigmas[timesteps], 0.0)
    states = []
    for (a, s), (b, r) in zip(
        zip(alphas[:-1], sigmas[:-1], strict=True), zip(alphas[1:], sigmas[1:], strict=True), strict=True
    ):
        factor = (a * b * S**2 + s * r) / (a**2 * S**2 + s**2)
        x = b * MU + factor * (x - a * MU)
        states.append(x)
    return states


@pytest.mark.parametrize("schedule", [LINEAR, SCALED])
@pytest.mark.parametrize("grid", ["trailing", "leading", "uniform"])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_every_step_of_ddim_is_exact_on_a_gaussian(schedule: Schedule, grid: str, steps: int) -> None:
    sampler = DDIM(schedule, time_grid(grid, steps, 1000))
    latents = jax.random.normal(jax.random.key(1), (2, 3, 3, 1))
    expected = exact_trajectory(schedule, sampler.timesteps, np.asarray(latents, np.float64))
    step = jax.jit(lambda carry, i: sampler.step(gaussian_epsilon(schedule), carry, i, jax.random.key(0)))
    carry = sampler.init(latents)
    for i in range(steps):
        carry = step(carry, i)
        np.testing.assert_allclose(carry.x, expected[i], atol=2e-5)


def test_sampling_approaches_the_exact_flow_as_steps_grow() -> None:
    latents = jax.random.normal(jax.random.key(2), (4, 2, 2, 1))
    x = np.asarray(latents, np.float64)
    # The probability flow keeps each point's distance from the mean, in standard deviations.
    alpha, sigma = LINEAR.alphas[999], LINEAR.sigmas[999]
    flow = MU + S * (x - alpha * MU) / np.sqrt(alpha**2 * S**2 + sigma**2)
    errors = []
    for steps in (10, 20, 40, 80, 160):
        sampler = DDIM(LINEAR, time_grid("trailing", steps, 1000))
        apply = lambda params, x, t: gaussian_epsilon(LINEAR)(x, t)  # noqa: E731
        end = sample(({},), apply, Stages((), 1000), sampler, latents, jax.random.key(0))
        np.testing.assert_allclose(end, exact_trajectory(LINEAR, sampler.timesteps, x)[-1], atol=2e-5)
        errors.append(float(np.abs(np.asarray(end) - flow).max()))
    # A first-order method: halving the step about halves the error.
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    assert np.all(ratios > 1.6), errors
    assert errors[-1] < 0.02


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_stochastic_ddim_keeps_the_marginals(eta: float) -> None:
    """For data at one point, DDIM of any eta keeps x_t ~ N(alpha mu, sigma^2) exactly at each timestep visited."""
    sampler = DDIM(LINEAR, np.array([999, 800, 500, 200, 50]), eta=eta)
    noise = jax.random.normal(jax.random.key(3), (40_000, 1))
    latents = LINEAR.add_noise(jnp.full_like(noise, MU), noise, 999)

    def apply(params: None, x: jax.Array, t: jax.Array) -> jax.Array:
        return gaussian_epsilon(LINEAR, s=0.0)(x, t)

    first_steps = jax.jit(lambda end: run_stage(None, apply, sampler, sampler.init(latents), 0, end, jax.random.key(4)))
    for end in range(1, 6):
        x = np.asarray(first_steps(end).x)
        t = [800, 500, 200, 50, -1][end - 1]
        alpha, sigma = (1.0, 0.0) if t < 0 else (LINEAR.alphas[t], LINEAR.sigmas[t])
        assert x.mean() == pytest.approx(alpha * MU, abs=0.025 * sigma + 1e-4)
        assert x.std() == pytest.approx(sigma, rel=0.02, abs=1e-4)
        if end < 5:
            # How much of the first noise is left tells eta = 0 (all) from more (less).
            kept = np.corrcoef(x[:, 0], np.asarray(noise)[:, 0])[0, 1]
            assert kept > 0.999 if eta == 0 else kept < 0.98


def test_clipping_bounds_the_estimate_and_changes_nothing_inside_the_bound() -> None:
    latents = jax.random.normal(jax.random.key(5), (2, 4, 4, 1))
    far = lambda x, t: gaussian_epsilon(LINEAR, mu=5.0, s=0.0)(x, t)  # noqa: E731
    one_step = DDIM(LINEAR, np.array([500]), clip_x0=1.0)
    end = one_step.finish(one_step.step(far, one_step.init(latents), jnp.int32(0), jax.random.key(0)))
    np.testing.assert_allclose(end, jnp.ones_like(latents), atol=1e-6)
    grid = time_grid("trailing", 10, 1000)
    plain, loose = DDIM(SCALED, grid), DDIM(SCALED, grid, clip_x0=100.0)
    apply = lambda params, x, t: gaussian_epsilon(SCALED)(x, t)  # noqa: E731
    a, b = (run_stage(None, apply, s, s.init(latents), 0, 10, jax.random.key(0)).x for s in (plain, loose))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_grids_hold_the_documented_timesteps() -> None:
    np.testing.assert_array_equal(time_grid("trailing", 50, 1000), np.arange(999, 0, -20))
    np.testing.assert_array_equal(time_grid("leading", 50, 1000), np.arange(980, -1, -20))
    np.testing.assert_array_equal(time_grid("uniform", 3, 1000), [999, 500, 0])
    assert time_grid("uniform", 1, 1000).tolist() == [999]


@pytest.mark.parametrize("name", ["trailing", "leading", "uniform"])
def test_grids_never_repeat_a_timestep(name: str) -> None:
    for num_timesteps in (1, 13, 100):
        for steps in range(1, num_timesteps + 1):
            grid = time_grid(name, steps, num_timesteps)
            assert grid.dtype == np.int32
            assert grid.shape == (steps,)
            assert np.all(np.diff(grid) < 0)
            assert grid[-1] >= 0
            assert grid[0] < num_timesteps
        np.testing.assert_array_equal(time_grid(name, num_timesteps, num_timesteps), np.arange(num_timesteps)[::-1])


def test_registry_builds_ddim() -> None:
    assert isinstance(SAMPLERS["ddim"](LINEAR, np.array([999, 0]), eta=0.5), DDIM)


@pytest.mark.parametrize("steps", [0, -3, 1001])
def test_impossible_numbers_of_steps_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps must lie between 1 and the 1000 training timesteps, but is {steps}"):
        time_grid("trailing", steps, 1000)


@pytest.mark.parametrize(
    ("timesteps", "options", "sentence"),
    [
        ([0, 999], {}, "strictly descending"),
        ([], {}, "strictly descending"),
        ([1000, 0], {}, "must lie in"),
        ([999, 0], {"eta": 1.5}, "eta"),
        ([999, 0], {"clip_x0": 0.0}, "clip_x0"),
    ],
)
def test_bad_samplers_are_refused(timesteps: list[int], options: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DDIM(LINEAR, np.array(timesteps), **options)
    with pytest.raises(ValueError, match="time grid must be"):
        time_grid("cubic", 10, 1000)
