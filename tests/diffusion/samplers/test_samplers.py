"""Each sampler against a slow one in float64, and against closed forms: for these data the best epsilon is known."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.diffusion.loop import run_stage
from ernie_vilg_jax.diffusion.samplers import DDIM, DDPM, GRIDS, SAMPLERS, make_sampler, time_grid
from ernie_vilg_jax.diffusion.schedule import Denoised, Schedule
from tests.diffusion.closed_forms import (
    FINE,
    FINE_ZERO,
    LINEAR,
    MU,
    SCALED,
    ZERO,
    S,
    at_a_point,
    flow,
    gaussian,
    in_jax,
    in_numpy,
    mixture,
    run,
    run_predict,
    v_in_jax,
)
from tests.diffusion.references import REFERENCES

CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # The sampler, its options, and those of the reference.
    ("ddpm", {}, {}),
    ("ddpm", {"variance": "large"}, {"large": True}),
    ("ddim", {}, {}),
    ("ddim", {"eta": 0.7}, {"eta": 0.7}),
    ("euler", {}, {}),
    ("heun", {}, {}),
    ("dpmpp_2m", {}, {}),
    ("unipc", {"order": 1}, {"order": 1}),
    ("unipc", {}, {}),
    ("unipc", {"order": 3}, {"order": 3}),
]
STOCHASTIC = ("ddpm", "ddim")


def test_every_sampler_is_compared() -> None:
    assert {name for name, _, _ in CASES} == set(SAMPLERS) == set(REFERENCES)


@pytest.mark.parametrize(("name", "options", "the_same"), CASES)
@pytest.mark.parametrize(("schedule", "grid", "start"), [(LINEAR, "trailing", 1.0), (SCALED, "karras", 0.65)])
def test_ten_steps_are_those_of_the_slow_reference(
    name: str, options: dict[str, Any], the_same: dict[str, Any], schedule: Schedule, grid: str, start: float
) -> None:
    """Every intermediate state, for data with a non-linear denoiser; from noise, and from the middle."""
    sampler = make_sampler(name, schedule, 10, grid=grid, start=start, **options)
    count = len(sampler.timesteps)
    latents = np.asarray(jax.random.normal(jax.random.key(1), (16, 8)))
    keys = [jax.random.fold_in(jax.random.key(4), i) for i in range(count)]
    noise = np.stack([np.asarray(jax.random.normal(key, latents.shape), np.float64) for key in keys])
    slow = REFERENCES[name]
    denoise = in_numpy(mixture, schedule)
    expected = slow(denoise, schedule, sampler.timesteps, latents.astype(np.float64), noise, **the_same)
    assert len(expected) == count
    step = jax.jit(lambda carry, i, key: sampler.step(in_jax(mixture, schedule), carry, i, key))
    carry = sampler.init(jnp.asarray(latents))
    for i in range(count):
        carry = step(carry, i, keys[i])
        assert carry.x.dtype == jnp.float32
        np.testing.assert_allclose(carry.x, expected[i], atol=2e-4, err_msg=f"step {i}")
    np.testing.assert_array_equal(sampler.finish(carry), carry.x)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_end_clean(name: str, steps: int) -> None:
    """The last step leaves no noise: data at one point are reached exactly, whatever the earlier steps."""
    latents = np.random.default_rng(2).standard_normal((4, 3))
    end = run(make_sampler(name, LINEAR, steps), at_a_point, LINEAR, latents)
    np.testing.assert_allclose(end, np.full_like(end, MU), atol=2e-4)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_from_pure_noise_to_a_point(name: str, steps: int) -> None:
    latents = np.random.default_rng(2).standard_normal((4, 3))
    for grid in GRIDS:
        end = run_predict(make_sampler(name, ZERO, steps, grid=grid), v_in_jax(ZERO, s=0.0), latents)
        np.testing.assert_allclose(end, np.full_like(end, MU), atol=1e-5, err_msg=grid)


@pytest.mark.parametrize("options", [{"eta": 0.5}, {"eta": 1.0}, {"clip_x0": 5.0}])
def test_from_pure_noise_to_a_point_with_options_of_ddim(options: dict[str, Any]) -> None:
    latents = np.random.default_rng(2).standard_normal((4, 3))
    end = run_predict(make_sampler("ddim", ZERO, 8, **options), v_in_jax(ZERO, s=0.0), latents)
    np.testing.assert_allclose(end, np.full_like(end, MU), atol=1e-5)


# Numbers of steps whose errors are compared, and the minimum order.
ORDERS: list[tuple[str, dict[str, Any], float, float]] = [
    ("ddim", {}, 0.9, 1.1),
    ("euler", {}, 0.9, 1.1),
    ("heun", {}, 1.9, 2.3),
    ("dpmpp_2m", {}, 1.9, 2.4),
    # The corrector adds one to the predictor's order.
    ("unipc", {"order": 1}, 1.8, 2.1),
    ("unipc", {}, 2.8, 3.3),
    ("unipc", {"order": 3}, 3.4, 4.2),
]


@pytest.mark.parametrize("zero", [False, True], ids=["", "from no signal"])
@pytest.mark.parametrize(("name", "options", "least", "most"), ORDERS)
def test_errors_shrink_with_the_order_of_the_method(
    name: str, options: dict[str, Any], least: float, most: float, zero: bool
) -> None:
    """Of a Gaussian, whose flow is known exactly; on the quadratic grid, where all lengths shrink together."""
    schedule = FINE_ZERO if zero else FINE
    predict = v_in_jax(schedule) if zero else in_jax(gaussian, schedule)
    latents = np.linspace(-2, 2, 32)[:, None]
    exact = flow(schedule, latents, schedule.num_timesteps - 1)
    steps = (40, 80, 160) if least < 3 else (40, 80)
    samplers = [make_sampler(name, schedule, count, grid="quadratic", **options) for count in steps]
    errors = np.array([np.abs(run_predict(sampler, predict, latents) - exact).max() for sampler in samplers])
    orders = np.log2(errors[:-1] / errors[1:])
    assert np.all((least < orders) & (orders < most)), (errors, orders)


@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc"])
def test_fifteen_steps_are_as_near_as_fifty_of_ddim(name: str) -> None:
    """Against 200 steps of DDIM from the same noise, with a non-linear denoiser."""
    latents = np.random.default_rng(5).standard_normal((256, 8))
    aim = run(make_sampler("ddim", LINEAR, 200), mixture, LINEAR, latents)
    apart = lambda name, steps: np.sqrt(  # noqa: E731
        np.mean((run(make_sampler(name, LINEAR, steps), mixture, LINEAR, latents) - aim) ** 2)
    )
    assert apart(name, 15) < apart("ddim", 50)


def test_euler_is_ddim_without_noise() -> None:
    latents = np.random.default_rng(6).standard_normal((16, 8))
    one, other = (run(make_sampler(name, LINEAR, 12), mixture, LINEAR, latents) for name in ("ddim", "euler"))
    np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_has_the_mean_and_variance_it_should(variance: Any) -> None:
    """On a Gaussian every step is linear in x, so mean and variance follow from those of the previous step."""
    sampler = DDPM(LINEAR, time_grid("trailing", 25, LINEAR), variance)
    noise = np.asarray(jax.random.normal(jax.random.key(3), (40_000, 1)))
    mean, spread = LINEAR.alphas[999] * MU, np.hypot(LINEAR.alphas[999] * S, LINEAR.sigmas[999])
    latents, steps = mean + spread * noise, len(sampler.timesteps)
    slow = lambda x, noise, end: REFERENCES["ddpm"](  # noqa: E731
        in_numpy(gaussian, LINEAR), LINEAR, sampler.timesteps, x, noise, large=variance == "large"
    )[end - 1]
    for end in (1, 12, steps):
        # The map x, z_1, ... z_S -> x' is affine: put in the mean, then each source of noise alone.
        expected = slow(np.array(mean), np.zeros(steps), end)
        sources = [slow(np.array(mean + spread), np.zeros(steps), end)]
        sources += [slow(np.array(mean), np.eye(steps)[k], end) for k in range(steps)]
        deviation = np.sqrt(np.sum((np.array(sources) - expected) ** 2))
        x = run(sampler, gaussian, LINEAR, latents, end=end)
        assert x.mean() == pytest.approx(expected, abs=0.025 * deviation)
        assert x.std() == pytest.approx(deviation, rel=0.02)


def test_ddpm_in_all_steps_gives_the_data() -> None:
    sampler = make_sampler("ddpm", LINEAR, 1000)
    x = run(sampler, gaussian, LINEAR, jax.random.normal(jax.random.key(3), (2000, 1)))
    assert x.mean() == pytest.approx(MU, abs=0.03)
    assert x.std() == pytest.approx(S, rel=0.06)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_stochastic_ddim_keeps_the_marginals(eta: float) -> None:
    """For data at one point, DDIM of any eta keeps x_t ~ N(alpha mu, sigma^2) exactly at each timestep visited."""
    sampler = DDIM(LINEAR, np.array([999, 800, 500, 200, 50]), eta=eta)
    noise = jax.random.normal(jax.random.key(3), (40_000, 1))
    latents = LINEAR.add_noise(jnp.full_like(noise, MU), noise, 999)
    for end in range(1, 6):
        x = run(sampler, at_a_point, LINEAR, latents, end=end)
        t = [800, 500, 200, 50, -1][end - 1]
        alpha, sigma = (1.0, 0.0) if t < 0 else (LINEAR.alphas[t], LINEAR.sigmas[t])
        assert x.mean() == pytest.approx(alpha * MU, abs=0.025 * sigma + 1e-4)
        assert x.std() == pytest.approx(sigma, rel=0.02, abs=1e-4)
        if end < 5:
            # The remaining share of the first noise distinguishes eta = 0 (all) from more (less).
            kept = np.corrcoef(x[:, 0], np.asarray(noise)[:, 0])[0, 1]
            assert kept > 0.999 if eta == 0 else kept < 0.98


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_clipping_bounds_the_estimate_and_changes_nothing_inside_the_bound(name: str) -> None:
    latents = jax.random.normal(jax.random.key(5), (8, 4))
    far = lambda namespace, x, alpha, sigma: gaussian(namespace, x, alpha, sigma, mu=5.0, s=0.0)  # noqa: E731
    end = run(make_sampler(name, LINEAR, 2, clip_x0=1.0), far, LINEAR, latents)
    np.testing.assert_allclose(end, np.ones_like(end), atol=1e-6)
    plain, loose = (make_sampler(name, SCALED, 10, clip_x0=clip) for clip in (None, 100.0))
    one, other = (run(sampler, gaussian, SCALED, latents) for sampler in (plain, loose))
    np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_an_image_with_little_noise_is_recovered(name: str) -> None:
    """Sampling may begin anywhere: here at the last steps, from the data's own images with noise added."""
    sampler = make_sampler(name, LINEAR, 20, grid="trailing", start=0.1)
    assert sampler.timesteps.tolist() == [99, 49]
    rng = np.random.default_rng(7)
    pictures, noise = MU + S * rng.standard_normal((5000, 1)), rng.standard_normal((5000, 1))
    noised = LINEAR.alphas[99] * pictures + LINEAR.sigmas[99] * noise
    end = run(sampler, gaussian, LINEAR, noised)
    assert end.mean() == pytest.approx(MU, abs=0.03)
    assert np.corrcoef(end[:, 0], pictures[:, 0])[0, 1] > 0.7
    # If the input had been taken for pure noise, the spread of the images would be lost.
    assert end.std() > 0.75 * S


def test_the_step_may_be_traced_and_the_carry_keeps_its_form() -> None:
    """The requirements of lax loops and of the modes of sampling."""
    for name in SAMPLERS:
        sampler = make_sampler(name, LINEAR, 4)
        carry = sampler.init(jnp.zeros((2, 3), jnp.bfloat16))
        assert carry.x.dtype == jnp.float32
        after = jax.eval_shape(
            lambda carry, i, sampler=sampler: sampler.step(in_jax(gaussian, LINEAR), carry, i, jax.random.key(0)),
            carry,
            jax.ShapeDtypeStruct((), jnp.int32),
        )
        assert jax.tree.structure(after) == jax.tree.structure(carry)
        assert [(a.shape, a.dtype) for a in jax.tree.leaves(after)] == [
            (leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(carry)
        ]
        assert all(leaf.shape == (2, 3) for leaf in jax.tree.leaves(carry)), "pipelined sampling cuts them alike"


@pytest.mark.parametrize(
    ("name", "asked"),
    [("ddpm", 1), ("ddim", 1), ("euler", 1), ("heun", 2), ("dpmpp_2m", 1), ("unipc", 1)],
)
def test_predictions_per_step(name: str, asked: int) -> None:
    """And their timesteps: Heun looks ahead, except in the last step, where there is nothing to predict."""
    sampler = make_sampler(name, LINEAR, 3, grid="trailing")
    seen: list[int] = []

    def apply(params: None, x: jax.Array, t: jax.Array) -> Denoised:
        jax.debug.callback(lambda t: seen.append(int(t)), t[0], ordered=True)
        return Denoised(x, jnp.zeros_like(x))

    run_stage(None, apply, sampler, sampler.init(jnp.ones((2, 3))), 0, 3, jax.random.key(0))
    jax.effects_barrier()
    assert seen == ([999, 666, 333] if asked == 1 else [999, 666, 666, 333, 333, 333])
