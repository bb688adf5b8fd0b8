from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.diffusion.guidance import Guidance, Numbers, guided
from ernie_vilg_jax.diffusion.schedule import Denoised, Kind, make_schedule
from ernie_vilg_jax.diffusion.stages import Stages

SCHEDULE = make_schedule("linear", 1000, 1e-4, 2e-2)
STAGES = Stages((250, 500, 750), 1000)
X = jax.random.normal(jax.random.key(0), (3, 4, 4, 2))
TEXT = {
    "features": jax.random.normal(jax.random.key(1), (3, 5, 2)),
    "mask": jnp.array([[True] * 5, [True] * 3 + [False] * 2, [True] + [False] * 4]),
}
NULL = {"features": jnp.full((3, 5, 2), 0.3), "mask": jnp.ones((3, 5), bool)}
T = jnp.array([3, 500, 999])


def predict(x: jax.Array, t: jax.Array, text: dict[str, jax.Array]) -> jax.Array:
    """Any function that mixes all its inputs, sample by sample."""
    context = jnp.sum(text["features"] * text["mask"][..., None], axis=1)[:, None, None]
    return jnp.tanh(x + context) * (1 + t[:, None, None, None] / 1000)


def counting(batches: list[int]) -> Callable[[jax.Array, jax.Array, dict[str, jax.Array]], jax.Array]:
    """`predict`, which records the sizes of its batches."""

    def count(x: jax.Array, t: jax.Array, text: dict[str, jax.Array]) -> jax.Array:
        assert text["features"].shape[0] == text["mask"].shape[0] == t.shape[0] == x.shape[0]
        batches.append(x.shape[0])
        return predict(x, t, text)

    return count


def formula(scale: Any, t: jax.Array = T, null: Any = NULL) -> np.ndarray:
    """Guidance in separate calls."""
    with_text, without = predict(X, t, TEXT), predict(X, t, null)
    return np.asarray(without + jnp.reshape(jnp.asarray(scale), (-1, 1, 1, 1)) * (with_text - without))


@pytest.mark.parametrize("scale", [0.0, 2.1, jnp.float32(1.0), jnp.float32(7.5), jnp.array([0.5, 1.0, 4.0])])
def test_formula_in_separate_calls(scale) -> None:
    np.testing.assert_allclose(
        guided(predict, TEXT, NULL, scale, SCHEDULE)(X, T).epsilon, formula(scale), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("one", [1, 1.0, Guidance(1.0).numbers(STAGES), Guidance(1.0, rescale=0.7).numbers(STAGES)])
def test_scale_one_is_the_conditional_model_exactly(one: Any) -> None:
    batches: list[int] = []
    got = guided(counting(batches), TEXT, NULL, one, SCHEDULE)(X, T).epsilon
    np.testing.assert_array_equal(got, predict(X, T, TEXT))
    assert batches == [3]


@pytest.mark.parametrize("guidance", [3.0, Guidance(3.0, (200, 800), 0.7, 99.5).numbers(STAGES)])
def test_guidance_is_one_call_on_twice_the_batch(guidance: Any) -> None:
    batches: list[int] = []
    guided(counting(batches), TEXT, NULL, guidance, SCHEDULE)(X, T)
    assert batches == [6]


def test_scale_may_be_traced_and_t_a_scalar() -> None:
    run = jax.jit(lambda scale, t: guided(predict, TEXT, NULL, scale, SCHEDULE)(X, t).epsilon)
    expected = guided(predict, TEXT, NULL, 2.1, SCHEDULE)(X, jnp.full((3,), 7)).epsilon
    np.testing.assert_allclose(run(2.1, jnp.int32(7)), expected, rtol=1e-5, atol=1e-6)


def test_one_empty_prompt_serves_the_whole_batch() -> None:
    shared = jax.tree.map(lambda leaf: leaf[:1], NULL)
    one, each = (guided(predict, TEXT, null, 2.1, SCHEDULE)(X, T) for null in (shared, NULL))
    jax.tree.map(np.testing.assert_array_equal, one, each)


def test_negative_prompts_are_each_samples_own() -> None:
    negative = {"features": jax.random.normal(jax.random.key(2), (3, 5, 2)), "mask": NULL["mask"]}
    numbers = Guidance(4.0).numbers(STAGES)
    got = guided(predict, TEXT, negative, numbers, SCHEDULE)(X, T).epsilon
    np.testing.assert_allclose(got, formula(4.0, null=negative), rtol=1e-5, atol=1e-5)


# ---- scales by time ------------------------------------------------------------------------------------------------


def test_a_plain_scale_is_the_program_it_was() -> None:
    """No table, no look-up, and none of the options that are off."""
    assert Guidance(2.1).numbers(STAGES) == Numbers(np.float32(2.1), None, None)
    programs = [
        jax.jit(lambda scale, x, t, guide=guide: guided(predict, TEXT, NULL, guide(scale), SCHEDULE)(x, t))
        .lower(2.1, X, T)
        .compile()
        .as_text()
        for guide in (lambda scale: scale, Numbers)
    ]
    lines = [[line.split(", metadata")[0] for line in str(text).splitlines()[1:]] for text in programs]
    assert len(lines[0]) > 10
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    ("guidance", "expected"),
    [
        (Guidance(3.0, interval=(200, 800)), {0: 1, 199: 1, 200: 3, 799: 3, 800: 1, 999: 1}),
        (Guidance(3.0, interval=(0, 1000)), {0: 3, 999: 3}),
        (Guidance(stage_scales=(1, 2, 3, 4)), {0: 1, 249: 1, 250: 2, 499: 2, 500: 3, 750: 4, 999: 4}),
        (Guidance(9.0, (300, 600), stage_scales=(1, 2, 3, 4)), {299: 1, 300: 2, 499: 2, 500: 3, 599: 3, 600: 1}),
    ],
)
def test_scales_by_time(guidance: Guidance, expected: dict[int, float]) -> None:
    numbers = guidance.numbers(STAGES)
    for t, scale in expected.items():
        times = jnp.full(3, t)
        got = guided(predict, TEXT, NULL, numbers, SCHEDULE)(X, times).epsilon
        np.testing.assert_allclose(got, formula(float(scale), times), rtol=1e-5, atol=1e-5, err_msg=f"t = {t}")
    # Also with a t for each sample.
    mixed = jnp.array([0, 555, 999])
    own = jnp.asarray(numbers.scale)[mixed]
    np.testing.assert_allclose(
        guided(predict, TEXT, NULL, numbers, SCHEDULE)(X, mixed).epsilon, formula(own, mixed), rtol=1e-5, atol=1e-5
    )


def test_scales_of_one_everywhere_run_half() -> None:
    assert Guidance(5.0, stage_scales=(1, 1, 1, 1)).numbers(STAGES).scale is None
    assert Guidance(1.0, interval=(0, 500)).numbers(STAGES).scale is None


def test_other_numbers_do_not_compile_again() -> None:
    traces: list[None] = []

    @jax.jit
    def run(numbers: Numbers) -> Denoised:
        traces.append(None)
        return guided(predict, TEXT, NULL, numbers, SCHEDULE)(X, T)

    plain = [Guidance(2.0), Guidance(7.0)]
    tables = [Guidance(2.0, (100, 300)), Guidance(5.0, (0, 9)), Guidance(stage_scales=(1, 2, 3, 4))]
    rescaled = [Guidance(2.0, rescale=0.5), Guidance(3.0, rescale=1.0)]
    clipped = [Guidance(2.0, dynamic_threshold=90.0), Guidance(2.0, dynamic_threshold=99.5)]
    for kind, together in enumerate((plain, tables, rescaled, clipped), 1):
        for guidance in together:
            run(guidance.numbers(STAGES))
        assert len(traces) == kind


# ---- rescaling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phi", [0.3, 1.0])
@pytest.mark.parametrize("t", [5, 500, 990])
def test_rescaled_guidance_has_the_contrast_it_should(phi: float, t: int) -> None:
    """Section 3.4 in NumPy, in v: the standard deviation moves back by the share phi."""
    times, (alpha, sigma) = jnp.full(3, t), (SCHEDULE.alphas[t], SCHEDULE.sigmas[t])
    numbers = Guidance(6.0, rescale=phi).numbers(STAGES)
    x = np.asarray(X, np.float64)
    v_of = lambda epsilon: alpha * epsilon - sigma * (x - sigma * epsilon) / alpha  # noqa: E731
    v_text, v_guided = v_of(np.asarray(predict(X, times, TEXT), np.float64)), v_of(formula(6.0, times).astype(float))
    deviation = lambda v: v.std(axis=(1, 2, 3), keepdims=True)  # noqa: E731
    v = phi * v_guided * deviation(v_text) / deviation(v_guided) + (1 - phi) * v_guided
    got = guided(predict, TEXT, NULL, numbers, SCHEDULE)(X, times).epsilon
    np.testing.assert_allclose(got, alpha * v + sigma * x, rtol=2e-4, atol=2e-4)
    if phi == 1:
        back = deviation(v_of(np.asarray(got, np.float64)))
        np.testing.assert_allclose(back, deviation(v_text), rtol=2e-3)


def test_rescaling_of_a_constant_is_finite() -> None:
    flat = lambda x, t, text: SCHEDULE.sigmas[500] * x  # noqa: E731  v = 0 everywhere
    got = guided(flat, TEXT, NULL, Guidance(3.0, rescale=1.0).numbers(STAGES), SCHEDULE)(X, jnp.full(3, 500)).epsilon
    assert np.all(np.isfinite(got))


# ---- dynamic thresholds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("percentile", [50.0, 95.0, 100.0])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_dynamic_threshold_clips_each_sample_at_its_percentile(percentile: float, scale: float) -> None:
    times = jnp.array([10, 400, 700])
    alpha, sigma = (table[np.asarray(times)].reshape(3, 1, 1, 1) for table in (SCHEDULE.alphas, SCHEDULE.sigmas))
    x = np.asarray(X, np.float64)
    x0 = (x - sigma * formula(scale, times).astype(float)) / alpha
    bound = np.percentile(np.abs(x0).reshape(3, -1), percentile, axis=1).reshape(3, 1, 1, 1)
    bound = np.maximum(bound, 1)
    assert (bound > 1).any()
    wanted = np.clip(x0, -bound, bound) / bound
    numbers = Guidance(scale, dynamic_threshold=percentile).numbers(STAGES)
    got = guided(predict, TEXT, NULL, numbers, SCHEDULE)(X, times).epsilon
    np.testing.assert_allclose((x - sigma * np.asarray(got, np.float64)) / alpha, wanted, atol=2e-4)
    np.testing.assert_array_less(np.abs(wanted), 1 + 1e-6)


def test_an_estimate_within_bounds_is_left_alone() -> None:
    times = jnp.full(3, 300)
    alpha, sigma = SCHEDULE.alphas[300], SCHEDULE.sigmas[300]
    small = lambda x, t, text: (x - alpha * 0.5 * jnp.tanh(x)) / sigma  # noqa: E731  x0 = tanh(x) / 2
    got = guided(small, TEXT, NULL, Guidance(1.0, dynamic_threshold=99.0).numbers(STAGES), SCHEDULE)(X, times).epsilon
    np.testing.assert_allclose(got, small(X, times, TEXT), atol=1e-5)


# ---- what the network predicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["v", "x0"])
@pytest.mark.parametrize(
    "guidance",
    [Guidance(1.0), Guidance(3.0), Guidance(3.0, (200, 800), rescale=0.7), Guidance(2.0, dynamic_threshold=90.0)],
    ids=["none", "scale", "rescaled", "threshold"],
)
def test_guidance_is_the_same_whatever_is_predicted(kind: Kind, guidance: Guidance) -> None:
    """If epsilon, v and x0 of the two halves agree, so do the guided predictions."""
    t = jnp.array([3, 500, 900])

    def other(x: jax.Array, t: jax.Array, text: Any) -> jax.Array:
        epsilon = predict(x, t, text)
        return SCHEDULE.target(SCHEDULE.to_x0(x, epsilon, t), epsilon, t, kind)

    numbers = guidance.numbers(STAGES)
    wanted = guided(predict, TEXT, NULL, numbers, SCHEDULE)(X, t)
    got = guided(other, TEXT, NULL, numbers, SCHEDULE, kind)(X, t)
    alpha, sigma = SCHEDULE.alpha_sigma(t, 4)
    np.testing.assert_allclose(alpha * got.x0, alpha * wanted.x0, atol=2e-5)
    np.testing.assert_allclose(sigma * got.epsilon, sigma * wanted.epsilon, atol=2e-5)


@pytest.mark.parametrize("kind", ["v", "x0"])
@pytest.mark.parametrize("options", [{}, {"rescale": 0.7}, {"dynamic_threshold": 90.0}])
def test_guidance_is_finite_without_signal(kind: Kind, options: dict[str, Any]) -> None:
    schedule = make_schedule("linear", 1000, 1e-4, 2e-2, zero_terminal_snr=True)
    numbers = Guidance(5.0, **options).numbers(STAGES)
    got = guided(predict, TEXT, NULL, numbers, schedule, kind)(X, jnp.array([0, 998, 999]))
    assert all(np.all(np.isfinite(part)) for part in got)


# ---- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"interval": (500, 500)}, r"guidance_interval: \(500, 500\) must be two timesteps, the lower first"),
        ({"interval": (-1, 500)}, "guidance_interval"),
        ({"interval": (1, 2, 3)}, "guidance_interval"),
        ({"interval": (0.1, 0.9)}, r"guidance_interval: \(0.1, 0.9\) must be two timesteps"),
    ],
)
def test_invalid_intervals_are_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Guidance(**fields)


def test_guidance_that_does_not_fit_the_model_is_refused() -> None:
    with pytest.raises(ValueError, match="2 scales were given, but the model has 4 stages; give one for each"):
        Guidance(stage_scales=(1.0, 2.0)).numbers(STAGES)
    with pytest.raises(ValueError, match=r"guidance_interval: \(0, 2000\) must end at 1000"):
        Guidance(interval=(0, 2000)).numbers(STAGES)
