import re
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.models.attention import GroupNorm, JointAttention, plain_attention


def made(weight_on: Any = "logits", seed: int = 0) -> tuple[Any, dict, tuple[jax.Array, ...]]:
    """Module, parameters without zeros, and (x, text, mask): 2x2 positions, 3 tokens of which one is padding."""
    rng = np.random.default_rng(seed)
    x, text = rng.standard_normal((1, 2, 2, 4)), rng.standard_normal((1, 3, 5))
    mask = np.array([True, True, False, True, True, True, True])
    module: Any = JointAttention(head_channels=2, weight_on=weight_on)
    args = (jnp.asarray(x, jnp.float32), jnp.asarray(text, jnp.float32), jnp.asarray(mask)[None, None, None])
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
    params = jax.tree.map(lambda a: jnp.asarray(0.5 * rng.standard_normal(a.shape), jnp.float32), shapes)
    return module, params, args


@pytest.mark.parametrize("weight_on", [None, "logits", "softmax"])
def test_joint_attention_is_one_softmax_over_text_and_image(weight_on: str | None) -> None:
    """Against plain NumPy: K = [K_text; K_image], V = [V_text; V_image], queries are image positions.

    With weights, the attention to a token is multiplied: its logit, or its probability.
    """
    module, params, args = made(weight_on or "logits")
    token_weight = np.array([1.0, 1.5, 7.0])
    given = jnp.asarray(token_weight, jnp.float32)[None] if weight_on else None
    out = module.apply({"params": params}, *args, given)

    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x, text, mask = (np.asarray(a) for a in args)
    y = np.asarray(GroupNorm().apply({"params": params["norm"]}, args[0])).reshape(4, 4)
    q, k, v = np.split(y @ p["qkv"]["kernel"] + p["qkv"]["bias"], 3, axis=1)
    text_k, text_v = np.split(text[0] @ p["text_kv"]["kernel"] + p["text_kv"]["bias"], 2, axis=1)
    k, v = np.concatenate([text_k, k]), np.concatenate([text_v, v])
    weight = np.concatenate([token_weight, np.ones(4)])
    heads = []
    for h in (slice(0, 2), slice(2, 4)):
        logits = q[:, h] @ k[:, h].T / np.sqrt(2)
        logits = np.where(mask[0, 0], logits * (weight if weight_on == "logits" else 1), -np.inf)
        share = np.exp(logits - logits.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        heads.append((share * (weight if weight_on == "softmax" else 1)) @ v[:, h])
    expected = x.reshape(4, 4) + np.concatenate(heads, axis=1) @ p["out"]["kernel"] + p["out"]["bias"]
    np.testing.assert_allclose(np.asarray(out).reshape(4, 4), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weight_on", ["logits", "softmax"])
def test_weights_of_one_change_nothing(weight_on: str) -> None:
    module, params, args = made(weight_on)
    ones = module.apply({"params": params}, *args, jnp.ones((1, 3)))
    np.testing.assert_array_equal(ones, module.apply({"params": params}, *args))


@pytest.mark.parametrize("weight_on", ["logits", "softmax"])
def test_weighing_key_words_costs_one_multiplication(weight_on: str) -> None:
    """The compiled program has one more `multiply`, with a broadcast operand: no array of [B, N, L + N]."""
    module, params, args = made(weight_on)

    def operations(*more: jax.Array) -> Counter[str]:
        program = jax.jit(module.apply).lower({"params": params}, *args, *more).compile().as_text()
        assert program is not None
        return Counter(re.findall(r"^ *(?:ROOT )?%\S+ = \S+ ([\w-]+)\(", program, re.MULTILINE))

    plain, weighted = operations(), operations(jnp.ones((1, 3)))
    movement = {"parameter", "broadcast", "bitcast", "reshape", "copy", "fusion", "call"}
    assert plain["multiply"] > 0 and plain["dot"] > 0
    more = {name: weighted[name] - plain[name] for name in weighted | plain if weighted[name] != plain[name]}
    assert {name: count for name, count in more.items() if name not in movement} == {"multiply": 1}


def test_attention_to_text_can_be_seen_and_costs_nothing_unseen() -> None:
    """The returned shares are those of the output, and a program without them does not compute them."""
    module, params, args = made()
    # Values that are 1 for text and 0 for the image turn the attention's output into its share for the text.
    params["qkv"] = {name: leaf.at[..., 8:].set(0.0) for name, leaf in params["qkv"].items()}
    params["text_kv"]["kernel"] = params["text_kv"]["kernel"].at[:, 4:].set(0.0)
    params["text_kv"]["bias"] = params["text_kv"]["bias"].at[4:].set(1.0)
    params["out"] = {"kernel": jnp.eye(4), "bias": jnp.zeros(4)}
    out, seen = module.apply({"params": params}, *args, mutable=["intermediates"])
    to_text = seen["intermediates"]["to_text"][0]
    assert to_text.shape == (1, 2, 2, 3) and to_text.dtype == jnp.float32
    assert np.all(to_text[..., 2] == 0), "the third token is padding"
    share = (out - args[0]).mean(-1)  # over heads, each of two channels
    assert float(share.min()) > 0.05 and float(share.max()) < 0.95
    np.testing.assert_allclose(to_text.sum(-1), share, rtol=1e-5)
    assert "intermediates" not in module.init(jax.random.key(0), *args)

    def softmaxes(**options: Any) -> int:
        def run(params: dict, *args: jax.Array) -> Any:
            return module.apply({"params": params}, *args, **options)

        return jax.jit(run).lower(params, *args).as_text().count("exponential")

    assert (softmaxes(), softmaxes(mutable=["intermediates"])) == (1, 2)


def test_group_norm_statistics_are_fp32() -> None:
    """A large mean would swamp the spread if the statistics were taken in bf16."""
    x = 300.0 + jax.random.normal(jax.random.key(0), (1, 8, 8, 32))
    half: Any = GroupNorm(dtype=jnp.bfloat16)
    out = half.apply(half.init(jax.random.key(0), x), x)
    assert out.dtype == jnp.bfloat16
    assert abs(float(out.astype(jnp.float32).std()) - 1.0) < 0.02


def test_gradients_over_one_position_in_bf16_are_those_of_fp32() -> None:
    """Features of a small image; in a whole step (`benchmarks.mini --shapes`) XLA could not compile those of bf16."""
    rng = np.random.default_rng(0)
    shapes = ((2, 1, 2, 4), (2, 4, 2, 4), (2, 4, 2, 4))
    q, k, v = (jnp.asarray(rng.standard_normal(shape), jnp.bfloat16) for shape in shapes)
    mask = jnp.ones((2, 1, 1, 4), bool)

    def total(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        made = plain_attention(q, k, v, mask)
        assert made.dtype == q.dtype and made.shape == q.shape
        return jnp.sum(jnp.square(made.astype(jnp.float32)))

    found = jax.jit(jax.grad(total, (0, 1, 2)))(q, k, v)
    exact = jax.grad(total, (0, 1, 2))(*(a.astype(jnp.float32) for a in (q, k, v)))
    for ours, theirs in zip(found, exact, strict=True):
        np.testing.assert_allclose(ours.astype(jnp.float32), theirs, atol=0.05)
