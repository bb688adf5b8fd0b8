"""Adapters, against sums written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.models import lora

SHAPES = {"dense/kernel": (6, 4), "conv/kernel": (3, 3, 5, 7), "tokens/embedding": (11, 4)}


def tree(leaves: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    nested: dict[str, dict[str, np.ndarray]] = {}
    for path, leaf in leaves.items():
        module, name = path.split("/")
        nested.setdefault(module, {})[name] = leaf
    return nested


def make_params(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    extra = {"dense/bias": (4,), "norm/scale": (5,)}
    return tree({path: rng.standard_normal(shape).astype(np.float32) for path, shape in {**SHAPES, **extra}.items()})


def filled(adapters, seed: int = 1):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), adapters)


def test_fresh_adapters_change_nothing() -> None:
    params = make_params()
    adapters = lora.init(jax.random.key(0), params, ("",), rank=2)
    assert {f"{module}/{name}" for module, names in adapters.items() for name in names} == set(SHAPES)
    jax.tree.map(np.testing.assert_array_equal, lora.merged(params, adapters, 3.0), params)
    # And each of them can learn: one of the two factors is not zero.
    for pair in (adapters["dense"]["kernel"], adapters["conv"]["kernel"], adapters["tokens"]["embedding"]):
        assert np.any(pair["a"]) != np.any(pair["b"])


@pytest.mark.parametrize("path", SHAPES)
def test_a_merged_array_is_the_sum_written_out(path: str) -> None:
    params = make_params()
    adapters = filled(lora.init(jax.random.key(0), params, ("",), rank=2))
    module, name = path.split("/")
    a, b, before = adapters[module][name]["a"], adapters[module][name]["b"], params[module][name]
    expected = before.copy()
    for place in np.ndindex(before.shape):
        expected[place] += 0.5 * sum(a[*place[:-1], k] * b[k, place[-1]] for k in range(2))
    merged = lora.merged(params, adapters, 0.5)
    np.testing.assert_allclose(merged[module][name], expected, rtol=1e-5)
    assert isinstance(merged[module][name], np.ndarray)
    assert merged["norm"]["scale"] is params["norm"]["scale"]


def test_the_dtype_of_the_parameters_stays() -> None:
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), make_params())
    adapters = filled(lora.init(jax.random.key(0), params, ("dense",), rank=1))
    merged = lora.merged(params, adapters, 1.0)
    assert merged["dense"]["kernel"].dtype == jnp.bfloat16
    exact = (
        np.asarray(params["dense"]["kernel"], np.float32)
        + adapters["dense"]["kernel"]["a"] @ (adapters["dense"]["kernel"]["b"])
    )
    np.testing.assert_array_equal(np.asarray(merged["dense"]["kernel"]), exact.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        (("dense",), {"dense/kernel"}),
        (("^con", "tokens$"), {"conv/kernel", "tokens/embedding"}),
        (("norm",), set()),
        ((), set()),
    ],
)
def test_targets_are_searched_in_names_of_modules(targets: tuple[str, ...], found: set[str]) -> None:
    assert set(lora.targeted(make_params(), targets)) == found


def test_tokens_that_do_not_occur_keep_their_rows() -> None:
    params = make_params()
    adapters = lora.init(jax.random.key(0), params, ("tokens",), rank=2)

    def loss(adapters):
        return jnp.sum(lora.merged(params, adapters, 1.0)["tokens"]["embedding"][jnp.array([3, 5])] ** 2)

    grads = jax.grad(loss)(adapters)["tokens"]["embedding"]["a"]
    assert set(np.flatnonzero(np.any(grads, axis=1))) == {3, 5}


def test_adapters_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no other"):
        lora.merged(make_params(), {"other": {}}, 1.0)
