"""Dense and GroupNorm: Flax's parameters and results on CPUs, Flax's own program elsewhere."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.models import attention, layers, text_encoder
from ernie_vilg_jax.models.attention import JointAttention
from ernie_vilg_jax.models.layers import Dense, GroupNorm
from ernie_vilg_jax.models.text_encoder import TransformerBlock

PAIRS: list[tuple[Any, Any, tuple[int, ...]]] = [
    (Dense(5), nn.Dense(5), (3, 7)),
    (Dense(5), nn.Dense(5), (2, 4, 7)),
    (Dense(5), nn.Dense(5), (2, 3, 4, 7)),
    (GroupNorm(4), nn.GroupNorm(4, epsilon=1e-5), (2, 4, 6, 8)),
    (GroupNorm(8), nn.GroupNorm(2, epsilon=1e-5), (2, 3, 1, 6)),
    (GroupNorm(4, 1e-3), nn.GroupNorm(4, epsilon=1e-3), (2, 9, 8)),
    (GroupNorm(4, fast_variance=False), nn.GroupNorm(4, epsilon=1e-5, use_fast_variance=False), (2, 4, 4, 8)),
]


def inner(params: Any) -> Any:
    """The parameters of Flax's module, which GroupNorm keeps under the name "norm"."""
    return params["params"].get("norm", params["params"])


@pytest.mark.parametrize(("ours", "flax", "shape"), PAIRS)
def test_results_and_gradients_are_those_of_flax(ours: Any, flax: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal(shape) + 1, jnp.float32)
    params = jax.tree.map(
        lambda leaf: leaf + jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype), ours.init(jax.random.key(0), x)
    )
    theirs = {"params": inner(params)}
    assert jax.tree.map(jnp.shape, theirs) == jax.tree.map(jnp.shape, flax.init(jax.random.key(0), x))

    def gradients(module: Any, params: Any) -> Any:
        return jax.jit(jax.grad(lambda p, x: jnp.sum(module.apply(p, x) ** 3), argnums=(0, 1)))(params, x)

    (own, own_x), (other, other_x) = gradients(ours, params), gradients(flax, theirs)
    pairs = [(ours.apply(params, x), flax.apply(theirs, x)), (own_x, other_x)]
    pairs += [(inner(own)[name], other["params"][name]) for name in other["params"]]
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-6 * float(jnp.abs(b).max()))


def test_group_norm_of_images_without_contrast_is_finite() -> None:
    x = jnp.full((1, 4, 4, 8), 300.0)
    norm: Any = GroupNorm()
    value, grad = jax.value_and_grad(lambda x: jnp.sum(norm.init_with_output(jax.random.key(0), x)[0]))(x)
    assert np.isfinite(value) and np.isfinite(grad).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes_are_those_of_flax(dtype: Any) -> None:
    x = jnp.ones((2, 4, 4, 8), dtype)
    modules: Any = (Dense(5, dtype=dtype), GroupNorm(4, dtype=dtype))
    for module in modules:
        y, params = module.init_with_output(jax.random.key(0), x)
        assert y.dtype == dtype
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


def in_block(x: jax.Array) -> Any:
    module = JointAttention(head_channels=4)
    args = x, jnp.ones((2, 3, 8)), jnp.ones((2, 1, 1, 19), bool)
    return jax.eval_shape(module.init, jax.random.key(0), *args), lambda p: module.apply(p, *args)


def in_text(x: jax.Array) -> Any:
    module, rows = TransformerBlock(2), x.reshape(2, 16, 8)
    return jax.eval_shape(module.init, jax.random.key(0), rows), lambda p: module.apply(p, rows)


@pytest.mark.parametrize("make", [in_block, in_text])
def test_other_platforms_get_the_program_of_flax(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def text(on_cpu: bool) -> str:
        monkeypatch.setattr(layers, "on_cpu", lambda: on_cpu)
        shapes, function = make(jnp.ones((2, 4, 4, 8)))
        step = jax.jit(jax.grad(lambda p: jnp.sum(function(p) ** 2)))
        return step.trace(shapes).lower(lowering_platforms=("tpu",)).as_text()

    here, elsewhere = text(True), text(False)
    monkeypatch.setattr(attention, "Dense", nn.Dense)
    monkeypatch.setattr(text_encoder, "Dense", nn.Dense)
    assert elsewhere == text(False)
    assert here != elsewhere
