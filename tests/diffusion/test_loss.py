import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.diffusion.loss import loss_per_sample, min_snr_weights
from ernie_vilg_jax.diffusion.schedule import Kind, make_schedule

SHAPE = (2, 3, 4, 5)


def _inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(size=SHAPE), random.normal(size=SHAPE), random.uniform(1, 1.5, SHAPE[:-1])


@pytest.mark.parametrize("weight_on", ["error", "residual"])
def test_weighted_loss_agrees_with_loops(weight_on) -> None:
    prediction, target, weight = _inputs()
    expected = np.zeros(2)
    for b, i, j, c in itertools.product(*map(range, SHAPE)):
        residual = prediction[b, i, j, c] - target[b, i, j, c]
        if weight_on == "error":
            expected[b] += weight[b, i, j] * residual**2
        else:
            expected[b] += (weight[b, i, j] * residual) ** 2
    loss = loss_per_sample(jnp.asarray(prediction), jnp.asarray(target), jnp.asarray(weight), weight_on)
    np.testing.assert_allclose(loss, expected / (3 * 4 * 5), rtol=1e-5)


def test_no_weight_is_weight_one_and_plain_mean() -> None:
    prediction, target, _ = _inputs()
    plain = loss_per_sample(jnp.asarray(prediction), jnp.asarray(target))
    np.testing.assert_allclose(plain, np.mean((prediction - target) ** 2, axis=(1, 2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(
        plain, loss_per_sample(jnp.asarray(prediction), jnp.asarray(target), jnp.ones(SHAPE[:-1]))
    )


def test_half_precision_inputs_are_subtracted_in_float32() -> None:
    # 256 + 1 is not representable in bfloat16's 8 bits, so a bfloat16 square of 16.0625 would be off.
    prediction = jnp.full((1, 2, 2, 1), 16.125, jnp.bfloat16)
    loss = loss_per_sample(prediction, jnp.full((1, 2, 2, 1), 0.0625, jnp.float32))
    assert loss.dtype == jnp.float32
    assert float(loss[0]) == 16.0625**2


def test_gradient_inside_a_box_grows_by_the_weight() -> None:
    prediction, target, _ = (jnp.asarray(a, jnp.float32) for a in _inputs())
    weight = jnp.ones(SHAPE[:-1]).at[:, 1:, :2].set(1.1)

    def total(prediction: jax.Array, weight: jax.Array | None) -> jax.Array:
        return loss_per_sample(prediction, target, weight).sum()

    ratio = jax.grad(total)(prediction, weight) / jax.grad(total)(prediction, None)
    np.testing.assert_allclose(ratio, jnp.broadcast_to(weight[..., None], SHAPE), rtol=1e-5)


def test_wrong_shapes_and_options_are_refused() -> None:
    x = jnp.zeros(SHAPE)
    with pytest.raises(ValueError, match="target has"):
        loss_per_sample(x, x[..., :1])
    with pytest.raises(ValueError, match="loss_weight has shape"):
        loss_per_sample(x, x, x)
    with pytest.raises(ValueError, match="weight_on"):
        loss_per_sample(x, x, None, "both")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["epsilon", "v", "x0"])
def test_min_snr_weighs_the_error_of_x0_alike_whatever_is_predicted(kind: Kind) -> None:
    """min(SNR, gamma) times the squared error of x0, from predictions that are off by a known amount."""
    schedule, gamma = make_schedule("linear", 1000, 1e-4, 2e-2), 5.0
    t, rng = np.array([0, 100, 250, 600, 999]), np.random.default_rng(0)
    x0, noise, off = (rng.standard_normal((5, 8)) for _ in range(3))
    alpha, sigma = (table[t][:, None] for table in (schedule.alphas, schedule.sigmas))
    x, wrong_x0 = alpha * x0 + sigma * noise, x0 + off
    wrong_noise = (x - alpha * wrong_x0) / sigma
    said = {"epsilon": wrong_noise, "x0": wrong_x0, "v": alpha * wrong_noise - sigma * wrong_x0}[kind]
    target = {"epsilon": noise, "x0": x0, "v": alpha * noise - sigma * x0}[kind]
    got = min_snr_weights(schedule, gamma, kind)[t] * np.mean((said - target) ** 2, axis=1)
    snr = (alpha / sigma)[:, 0] ** 2
    np.testing.assert_allclose(got, np.minimum(snr, gamma) * np.mean(off**2, axis=1), rtol=1e-9)


def test_min_snr_leaves_noisy_timesteps_of_epsilon_alone() -> None:
    schedule = make_schedule("linear", 1000, 1e-4, 2e-2)
    weights = min_snr_weights(schedule, 5.0, "epsilon")
    noisy = np.exp(schedule.log_snr) <= 5.0
    np.testing.assert_array_equal(weights[noisy], 1.0)
    assert 0 < noisy.sum() < 1000 and np.all(weights[~noisy] < 1)
