from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.models.text_encoder import TextEncoder

ENCODER: Any = TextEncoder(vocab_size=20, max_length=6, width=8, num_layers=2, num_heads=2)
TOKENS = jnp.array([[1, 5, 7, 2, 0, 0], [1, 9, 2, 0, 0, 0]])
MASK = TOKENS > 0
PARAMS = jax.jit(ENCODER.init)(jax.random.key(0, impl="rbg"), TOKENS, MASK)
apply = jax.jit(ENCODER.apply)


def test_the_content_of_padding_does_not_matter() -> None:
    text = apply(PARAMS, TOKENS, MASK)
    other = apply(PARAMS, jnp.where(MASK, TOKENS, 13), MASK)
    np.testing.assert_allclose(text.features * MASK[..., None], other.features * MASK[..., None], atol=1e-6)
    np.testing.assert_allclose(text.pooled, other.pooled, atol=1e-6)
    short = apply(PARAMS, TOKENS[:, :4], MASK[:, :4])
    np.testing.assert_allclose(text.pooled, short.pooled, atol=1e-5)


def test_it_reads_in_both_directions() -> None:
    last_changed = apply(PARAMS, TOKENS.at[0, 3].set(4), MASK).features
    assert float(jnp.abs(last_changed[0, 0] - apply(PARAMS, TOKENS, MASK).features[0, 0]).max()) > 1e-4


def test_causal_it_reads_forwards_only() -> None:
    causal = ENCODER.copy(causal=True)
    forwards = jax.jit(causal.apply)
    before = forwards(PARAMS, TOKENS, MASK).features[0]
    after = forwards(PARAMS, TOKENS.at[0, 2].set(4), MASK).features[0]
    np.testing.assert_allclose(before[:2], after[:2], atol=1e-6)
    assert float(jnp.abs(before[2:4] - after[2:4]).max(-1).min()) > 1e-4


def test_too_many_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="7 tokens, but the text encoder has 6 positions"):
        ENCODER.apply(PARAMS, jnp.ones((1, 7), int), jnp.ones((1, 7), bool))


@pytest.mark.parametrize(("norm", "remat"), [("pre", False), ("pre", True), ("post", True)])
def test_scanned_layers_are_the_same_function(norm: str, remat: bool) -> None:
    straight = ENCODER.copy(norm=norm)
    scanned = straight.copy(scan_layers=True, remat=remat)
    params = jax.jit(straight.init)(jax.random.key(0, impl="rbg"), TOKENS, MASK)
    of_scanned = jax.eval_shape(scanned.init, jax.random.key(0), TOKENS, MASK)
    assert jax.tree.structure(of_scanned) == jax.tree.structure(params)

    def loss(encoder: Any) -> Any:
        of = lambda p: (encoder.apply(p, TOKENS, MASK).features ** 2 * MASK[..., None]).sum()  # noqa: E731
        return jax.jit(jax.value_and_grad(of))(params)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), loss(straight), loss(scanned))


def test_post_normalisation_ends_in_a_norm_and_begins_with_one() -> None:
    """BERT's layout; tests/interop/test_parity.py compares the numbers."""
    encoder = ENCODER.copy(norm="post", mlp_width=20, norm_epsilon=1e-12)
    params = jax.jit(encoder.init)(jax.random.key(0, impl="rbg"), TOKENS, MASK)
    assert "norm_embed" in params["params"] and "norm_out" not in params["params"]
    assert params["params"]["layer_00"]["mlp_in"]["kernel"].shape == (8, 20)
    features = np.asarray(jax.jit(encoder.apply)(params, TOKENS, MASK).features)
    np.testing.assert_allclose(features.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(features.var(-1), 1, atol=1e-4)


def test_unknown_arrangements_are_refused() -> None:
    with pytest.raises(ValueError, match="norm='both' is not one of pre, post"):
        ENCODER.copy(norm="both")
    with pytest.raises(ValueError, match="activation='swish' is not one of gelu_tanh, gelu, quick_gelu, relu, swiglu"):
        ENCODER.copy(activation="swish")
