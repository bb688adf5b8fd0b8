import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.diffusion.guidance import guided

X = jax.random.normal(jax.random.key(0), (3, 4, 4, 2))
TEXT = {
    "features": jax.random.normal(jax.random.key(1), (3, 5, 2)),
    "mask": jnp.array([[True] * 5, [True] * 3 + [False] * 2, [True] + [False] * 4]),
}
NULL = {"features": jnp.full((3, 5, 2), 0.3), "mask": jnp.ones((3, 5), bool)}


def predict(x: jax.Array, t: jax.Array, text: dict[str, jax.Array]) -> jax.Array:
    """Any function that mixes all its inputs, sample by sample."""
    context = jnp.sum(text["features"] * text["mask"][..., None], axis=1)[:, None, None]
    return jnp.tanh(x + context) * (1 + t[:, None, None, None] / 1000)


T = jnp.array([3, 500, 999])


@pytest.mark.parametrize("scale", [0.0, 2.1, jnp.float32(1.0), jnp.float32(7.5), jnp.array([0.5, 1.0, 4.0])])
def test_formula_in_separate_calls(scale) -> None:
    with_text, without = predict(X, T, TEXT), predict(X, T, NULL)
    expected = without + jnp.reshape(scale, (-1, 1, 1, 1)) * (with_text - without)
    np.testing.assert_allclose(guided(predict, TEXT, NULL, scale)(X, T), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("one", [1, 1.0])
def test_scale_one_is_the_conditional_model_exactly(one) -> None:
    batches: list[int] = []

    def counting(x: jax.Array, t: jax.Array, text: dict[str, jax.Array]) -> jax.Array:
        batches.append(x.shape[0])
        return predict(x, t, text)

    np.testing.assert_array_equal(guided(counting, TEXT, NULL, one)(X, T), predict(X, T, TEXT))
    assert batches == [3]


def test_guidance_is_one_call_on_twice_the_batch() -> None:
    batches: list[int] = []

    def counting(x: jax.Array, t: jax.Array, text: dict[str, jax.Array]) -> jax.Array:
        batches.append(x.shape[0])
        assert text["features"].shape[0] == text["mask"].shape[0] == t.shape[0] == x.shape[0]
        return predict(x, t, text)

    guided(counting, TEXT, NULL, 3.0)(X, T)
    assert batches == [6]


def test_scale_may_be_traced_and_t_a_scalar() -> None:
    run = jax.jit(lambda scale, t: guided(predict, TEXT, NULL, scale)(X, t))
    expected = guided(predict, TEXT, NULL, 2.1)(X, jnp.full((3,), 7))
    np.testing.assert_allclose(run(2.1, jnp.int32(7)), expected, rtol=1e-5, atol=1e-6)


def test_one_empty_prompt_serves_the_whole_batch() -> None:
    shared = jax.tree.map(lambda leaf: leaf[:1], NULL)
    np.testing.assert_array_equal(guided(predict, TEXT, shared, 2.1)(X, T), guided(predict, TEXT, NULL, 2.1)(X, T))
