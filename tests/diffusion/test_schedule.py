import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.diffusion.schedule import Schedule, make_schedule

LINEAR = make_schedule("linear", 1000, 1e-4, 2e-2)
SCALED = make_schedule("scaled_linear", 1000, 0.00085, 0.012)
T_BATCH = jnp.array([0, 17, 500, 999])


@pytest.fixture
def pair() -> tuple[jax.Array, jax.Array]:
    keys = jax.random.split(jax.random.key(0))
    return jax.random.normal(keys[0], (4, 3, 3, 2)), jax.random.normal(keys[1], (4, 3, 3, 2))


def test_betas_have_the_stated_ends_and_spacing() -> None:
    np.testing.assert_allclose(LINEAR.betas[[0, 1, -1]], [1e-4, 1e-4 + (2e-2 - 1e-4) / 999, 2e-2])
    np.testing.assert_allclose(SCALED.betas[[0, -1]], [0.00085, 0.012])
    np.testing.assert_allclose(np.diff(np.sqrt(SCALED.betas), 2), 0, atol=1e-12)


@pytest.mark.parametrize("schedule", [LINEAR, SCALED])
def test_amplitudes_agree_with_a_slow_product(schedule: Schedule) -> None:
    product = 1.0
    for t, beta in enumerate(schedule.betas):
        product *= 1 - beta
        assert schedule.alphas_cumprod[t] == pytest.approx(product, rel=1e-12)
    np.testing.assert_allclose(schedule.alphas**2 + schedule.sigmas**2, 1, rtol=1e-14)
    np.testing.assert_allclose(schedule.log_snr, 2 * np.log(schedule.alphas / schedule.sigmas), rtol=1e-10, atol=1e-12)
    assert np.all(np.diff(schedule.log_snr) < 0)


def test_alpha_sigma_broadcasts_and_knows_the_clean_end() -> None:
    alpha, sigma = LINEAR.alpha_sigma(jnp.array([-1, 0, 999]), 4)
    assert alpha.shape == sigma.shape == (3, 1, 1, 1)
    assert alpha.dtype == sigma.dtype == jnp.float32
    np.testing.assert_array_equal(alpha.ravel(), np.array([1, LINEAR.alphas[0], LINEAR.alphas[-1]], np.float32))
    np.testing.assert_array_equal(sigma.ravel(), np.array([0, LINEAR.sigmas[0], LINEAR.sigmas[-1]], np.float32))
    assert LINEAR.alpha_sigma(5, 3)[0].shape == (1, 1, 1)


def test_add_noise_is_float32_and_per_sample(pair: tuple[jax.Array, jax.Array]) -> None:
    x0, noise = pair
    x = LINEAR.add_noise(x0.astype(jnp.bfloat16), noise.astype(jnp.bfloat16), T_BATCH)
    assert x.dtype == jnp.float32
    for b, t in enumerate(T_BATCH.tolist()):
        clean, added = (np.float32(a[b].astype(jnp.bfloat16)) for a in pair)
        np.testing.assert_allclose(x[b], LINEAR.alphas[t] * clean + LINEAR.sigmas[t] * added, atol=1e-6)
    np.testing.assert_array_equal(LINEAR.add_noise(x0, noise, -1), x0)


@pytest.mark.parametrize("name", ["linear", "scaled_linear"])
def test_zero_terminal_snr_leaves_no_signal_at_the_end(name: str) -> None:
    """Algorithm 1 of arXiv 2305.08891: shifted to 0, scaled so that the first is unchanged."""
    before = make_schedule(name, 1000, 1e-3, 2e-2)
    after = make_schedule(name, 1000, 1e-3, 2e-2, zero_terminal_snr=True)
    assert (after.alphas[-1], after.sigmas[-1], after.betas[-1]) == (0.0, 1.0, 1.0)
    assert after.log_snr[-1] == -np.inf
    np.testing.assert_allclose(after.alphas[0], before.alphas[0], rtol=1e-12)
    np.testing.assert_allclose(
        np.diff(after.alphas) / np.diff(before.alphas),
        before.alphas[0] / (before.alphas[0] - before.alphas[-1]),
        rtol=1e-9,
    )
    assert np.all(np.diff(after.log_snr) < 0)


@pytest.mark.parametrize("kind", ["x0", "v"])
def test_both_parts_are_known_without_signal(kind, pair) -> None:
    x0, noise = pair
    schedule = make_schedule("linear", 1000, 1e-4, 2e-2, zero_terminal_snr=True)
    x = schedule.add_noise(x0, noise, T_BATCH)
    np.testing.assert_array_equal(x[3], noise[3])
    denoised = schedule.denoised(x, schedule.target(x0, noise, T_BATCH, kind), T_BATCH, kind)
    np.testing.assert_allclose(denoised.x0, x0, atol=2e-6)
    sigma = schedule.alpha_sigma(T_BATCH, 4)[1]
    np.testing.assert_allclose(sigma * denoised.epsilon, sigma * noise, atol=2e-6)


@pytest.mark.parametrize("kind", ["epsilon", "x0", "v"])
@pytest.mark.parametrize("schedule", [LINEAR, SCALED])
def test_conversions_recover_both_parts_from_each_kind(schedule: Schedule, kind, pair) -> None:
    x0, noise = pair
    x = schedule.add_noise(x0, noise, T_BATCH)
    prediction = schedule.target(x0, noise, T_BATCH, kind)
    alpha, sigma = schedule.alpha_sigma(T_BATCH, 4)
    # Dividing by a small amplitude magnifies float32 rounding by its inverse.
    error = jnp.abs(schedule.to_x0(x, prediction, T_BATCH, kind) - x0) * alpha
    assert float(error.max()) < 2e-6
    error = jnp.abs(schedule.to_epsilon(x, prediction, T_BATCH, kind) - noise) * sigma
    assert float(error.max()) < 2e-6
    error = jnp.abs(schedule.to_v(x, prediction, T_BATCH, kind) - schedule.target(x0, noise, T_BATCH, "v"))
    assert float((error * alpha * sigma).max()) < 2e-6


def test_clean_sample_implies_no_noise_rather_than_nan() -> None:
    x = jnp.ones((2, 3))
    np.testing.assert_array_equal(LINEAR.to_epsilon(x, x, -1, "x0"), jnp.zeros((2, 3)))
    np.testing.assert_array_equal(LINEAR.to_x0(x, 5 * x, -1), x)


def test_works_with_traced_timesteps(pair: tuple[jax.Array, jax.Array]) -> None:
    x0, noise = pair
    expected = LINEAR.add_noise(x0, noise, T_BATCH)
    np.testing.assert_allclose(jax.jit(LINEAR.add_noise)(x0, noise, T_BATCH), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("cosine", 10, 1e-4, 2e-2), "name"),
        (("linear", 0, 1e-4, 2e-2), "num_timesteps"),
        (("linear", 10, 0.0, 2e-2), "beta_start"),
        (("linear", 10, 1e-4, 1.0), "beta_end"),
        (("linear", 10, float("nan"), 0.1), "beta_start"),
        (("linear", 10, 0.2, 0.1), "beta_end"),
        (("linear", 1, 0.1, 0.2, True), "zero_terminal_snr"),
    ],
)
def test_bad_values_name_the_field(arguments: tuple[str, int, float, float], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        make_schedule(*arguments)


def test_bad_calls_are_refused(pair: tuple[jax.Array, jax.Array]) -> None:
    with pytest.raises(ValueError, match="kind must be"):
        LINEAR.target(*pair, T_BATCH, "score")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="integer timesteps"):
        LINEAR.add_noise(*pair, jnp.array(0.5))
    for betas in ([0.1, 1.5], [1.0, 0.1], [0.1, 0.0], [0.1, np.nan]):
        with pytest.raises(ValueError, match="betas"):
            Schedule(np.array(betas))
