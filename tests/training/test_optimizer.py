from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.training.optimizer import (
    OPTIMIZERS,
    WATCH_AFTER,
    ema_init,
    ema_update,
    learning_rate,
    make_optimizer,
    skipped_updates,
)


def test_rate_warms_up_stays_and_falls() -> None:
    section = ConfigDict({"steps": 100, "warmup_steps": 10, "decay_steps": 20, "learning_rate": 2.0})
    rate = learning_rate(section)
    steps = [0, 4, 9, 50, 80, 90, 99]
    np.testing.assert_allclose(
        [np.asarray(rate(jnp.int32(s))) for s in steps], [0.2, 1.0, 2.0, 2.0, 2.0, 1.0, 0.1], rtol=1e-6
    )


def test_rate_is_fixed_by_default() -> None:
    section = ConfigDict({"steps": 100, "warmup_steps": 0, "decay_steps": 0, "learning_rate": 2.0})
    assert {np.asarray(learning_rate(section)(jnp.int32(s))).item() for s in (0, 1, 50, 99)} == {2.0}


def test_average_forgets_its_start_quickly_then_slowly() -> None:
    ema = {"w": jnp.zeros(())}
    first = ema_update(ema, {"w": jnp.ones(())}, jnp.int32(0), 0.9999)
    assert float(first["w"]) == pytest.approx(0.9)
    late = ema_update(ema, {"w": jnp.ones(())}, jnp.int32(10**7), 0.9999)
    assert float(late["w"]) == pytest.approx(1e-4, rel=1e-3)


# ---- averages in half precision ----------------------------------------------------------------------------------


def test_an_average_in_bfloat16_follows_the_one_in_float32() -> None:
    """Over 4000 steps in which the parameters move by a tenth, each update far below what bfloat16 can say."""
    start = jax.random.normal(jax.random.key(0), (4096,))
    aim = start + 0.1 * jax.random.normal(jax.random.key(1), (4096,))

    def body(i: jax.Array, averages: Any) -> Any:
        params = {"w": start + (aim - start) * jnp.minimum(1.0, i / 2000)}
        return tuple(ema_update(ema, params, i + 100_000, 0.9999) for ema in averages)

    averages = tuple(ema_init({"w": start}, dtype) for dtype in ("float32", "bfloat16"))
    full, half = jax.jit(lambda averages: jax.lax.fori_loop(0, 4000, body, averages))(averages)
    assert (full["w"].dtype, half["w"].dtype) == (jnp.float32, jnp.bfloat16)
    apart = lambda a, b: float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))  # noqa: E731
    assert apart(start, full["w"]) > 0.02, "it moved by more than the limit"
    assert apart(half["w"].astype(jnp.float32), full["w"]) < 0.01
    # Rounding is unbiased: the mean is closer than any single weight.
    assert abs(float((half["w"].astype(jnp.float32) - full["w"]).mean())) < 3e-4


@pytest.mark.parametrize("value", [1.0, -1.0, 1.003, -3e-5, 0.0, 1e38])
def test_rounding_by_chance_gives_the_neighbours_with_the_right_mean(value: float) -> None:
    """An average that equals its parameters stays there; between two values of bfloat16 both occur."""
    params = {"w": jnp.full((20_000,), value)}
    got = np.asarray(
        ema_update({"w": jnp.full((20_000,), value, jnp.bfloat16)}, params, jnp.int32(0), 0.0)["w"], np.float64
    )
    step = abs(value) / 128
    assert np.abs(got - value).max() <= step
    assert got.mean() == pytest.approx(value, abs=0.02 * step, rel=1e-6)


# ---- optimizers by name -----------------------------------------------------------------------------------------


def make(**changes: Any) -> tuple[optax.GradientTransformation, ConfigDict]:
    config = default_config()
    config.phases.base.learning_rate, config.phases.base.warmup_steps = 1e-2, 0
    config.optimizer.update(changes)
    return make_optimizer(config, config.phases.base), config


PARAMS: Any = {
    "conv_in": {"kernel": jnp.ones((3, 3, 2, 4))},
    "res": {"conv_in": {"kernel": jnp.ones((3, 3, 4, 6)), "bias": jnp.zeros(6)}},
    "qkv": {"kernel": jnp.ones((8, 12))},
    "tokens": {"embedding": jnp.ones((16, 8))},
}


def random_grads(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), jnp.float32), PARAMS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_descends_at_the_given_rate(name: str) -> None:
    """On a quadratic, with updates of the size of AdamW's: the same learning rate suits all."""
    optimizer, _ = make(name=name)

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        updates, state = optimizer.update(jax.tree.map(lambda p: p - 0.5, params), state, params)
        return optax.apply_updates(params, updates), state, updates

    noise = random_grads(0)
    params, state = jax.tree.map(lambda p, n: p + 0.3 * n, PARAMS, noise), optimizer.init(PARAMS)
    distance = lambda params: float(optax.tree.norm(jax.tree.map(lambda p: p - 0.5, params)))  # noqa: E731
    before = distance(params)
    params, state, updates = step(params, state)
    for leaf in jax.tree.leaves(updates):
        rms = float(jnp.sqrt(jnp.mean(leaf**2)))
        assert 0.05 * 1e-2 < rms < 2.5 * 1e-2, (name, leaf.shape, rms)
    for _ in range(250):
        params, state, _ = step(params, state)
    assert distance(params) < 0.5 * before


def test_adamw_is_unchanged() -> None:
    settings = default_config().optimizer
    optimizer, config = make()
    plain = optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.adamw(learning_rate(config.phases.base), 0.9, 0.999, weight_decay=0.01, mu_dtype="float32"),
    )
    ours, theirs = (one.update(random_grads(1), one.init(PARAMS), PARAMS) for one in (optimizer, plain))
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_muon_makes_updates_of_inner_matrices_orthogonal_and_leaves_the_rest_to_adamw() -> None:
    updates = {}
    for name in ("muon", "adamw"):
        optimizer, _ = make(name=name, weight_decay=0.0)
        updates[name], _ = optimizer.update(random_grads(2), optimizer.init(PARAMS), PARAMS)
    for kernel in (updates["muon"]["qkv"]["kernel"], updates["muon"]["res"]["conv_in"]["kernel"]):
        matrix = np.asarray(kernel).reshape(-1, kernel.shape[-1])
        values = np.linalg.svd(matrix, compute_uv=False)
        assert values.max() / values.min() < 2.5, "five Newton-Schulz steps bring them near each other"
    for path in (("conv_in", "kernel"), ("res", "conv_in", "bias"), ("tokens", "embedding")):
        ours, theirs = (updates[name] for name in ("muon", "adamw"))
        for key in path:
            ours, theirs = ours[key], theirs[key]
        # optax's AdamW beside Muon is Nesterov's: the same signs.
        np.testing.assert_array_equal(np.sign(ours), np.sign(theirs))


def test_adafactor_keeps_rows_and_columns() -> None:
    optimizer, _ = make(name="adafactor", b1=0.0)
    params = {"kernel": jnp.ones((3, 3, 128, 256)), "bias": jnp.ones(256)}
    kept = sum(leaf.size for leaf in jax.tree.leaves(optimizer.init(params)))
    assert kept < 0.02 * params["kernel"].size


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "sgd"}, "optimizer.name='sgd' must be one of adamw, adafactor, muon"),
        ({"ema_dtype": "float16"}, "optimizer.ema_dtype='float16' must be one of float32, bfloat16"),
        ({"spike_factor": 0.5}, "optimizer.spike_factor=0.5 must be 0"),
        ({"spike_factor": float("nan")}, "optimizer.spike_factor=nan must be 0"),
    ],
)
def test_invalid_fields_are_named(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        make(**changes)


# ---- spikes -----------------------------------------------------------------------------------------------------


def test_a_spike_changes_nothing_and_is_counted() -> None:
    optimizer, _ = make(spike_factor=4.0)
    update = jax.jit(lambda grads, state: optimizer.update(grads, state, PARAMS))
    state: Any = optimizer.init(PARAMS)
    assert int(skipped_updates(state)["skipped_updates"]) == 0
    huge = jax.tree.map(lambda leaf: 1000 * leaf, random_grads(3))
    _, early = update(huge, state)
    assert int(skipped_updates(early)["skipped_updates"]) == 0, "at the start nothing is known"
    for seed in range(WATCH_AFTER):
        _, state = update(random_grads(seed), state)
    updates, after = update(huge, state)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(updates))
    jax.tree.map(np.testing.assert_array_equal, after.inner, state.inner)
    assert int(skipped_updates(after)["skipped_updates"]) == 1
    updates, went_on = update(random_grads(0), after)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(updates))
    assert int(skipped_updates(went_on, None, went_on)["skipped_updates"]) == 2


def test_gradients_that_stay_large_are_followed() -> None:
    optimizer, _ = make(spike_factor=3.0)
    update = jax.jit(lambda grads, state: optimizer.update(grads, state, PARAMS))
    state: Any = optimizer.init(PARAMS)
    for seed in range(WATCH_AFTER):
        _, state = update(random_grads(seed), state)
    for seed in range(200):
        _, state = update(jax.tree.map(lambda leaf: 10 * leaf, random_grads(seed)), state)
    assert 0 < int(state.skipped) < 100


def test_without_the_guard_nothing_is_kept_or_counted() -> None:
    assert skipped_updates(make()[0].init(PARAMS), None) == {}
