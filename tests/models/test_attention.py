from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ernie_vilg_jax.models.attention import GroupNorm, JointAttention


def test_joint_attention_is_one_softmax_over_text_and_image() -> None:
    """Against plain NumPy: K = [K_text; K_image], V = [V_text; V_image], queries are image positions."""
    rng = np.random.default_rng(0)
    x, text = rng.standard_normal((1, 2, 2, 4)), rng.standard_normal((1, 3, 5))
    mask = np.array([True, True, False, True, True, True, True])
    module = JointAttention(head_channels=2)
    args = (jnp.asarray(x, jnp.float32), jnp.asarray(text, jnp.float32), jnp.asarray(mask)[None, None, None])
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
    params = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape), jnp.float32), shapes)
    out = module.apply({"params": params}, *args)

    p = jax.tree.map(np.asarray, params)
    y = np.asarray(GroupNorm().apply({"params": params["norm"]}, args[0])).reshape(4, 4)
    q, k, v = np.split(y @ p["qkv"]["kernel"] + p["qkv"]["bias"], 3, axis=1)
    text_k, text_v = np.split(text[0] @ p["text_kv"]["kernel"] + p["text_kv"]["bias"], 2, axis=1)
    k, v = np.concatenate([text_k, k]), np.concatenate([text_v, v])
    heads = []
    for h in (slice(0, 2), slice(2, 4)):
        logits = np.where(mask, q[:, h] @ k[:, h].T / np.sqrt(2), -np.inf)
        weights = np.exp(logits - logits.max(1, keepdims=True))
        heads.append(weights / weights.sum(1, keepdims=True) @ v[:, h])
    expected = x.reshape(4, 4) + np.concatenate(heads, axis=1) @ p["out"]["kernel"] + p["out"]["bias"]
    np.testing.assert_allclose(np.asarray(out).reshape(4, 4), expected, rtol=1e-4, atol=1e-4)


def test_group_norm_statistics_are_fp32() -> None:
    """A large mean would swamp the spread if the statistics were taken in bf16."""
    x = 300.0 + jax.random.normal(jax.random.key(0), (1, 8, 8, 32))
    half: Any = GroupNorm(dtype=jnp.bfloat16)
    out = half.apply(half.init(jax.random.key(0), x), x)
    assert out.dtype == jnp.bfloat16
    assert abs(float(out.astype(jnp.float32).std()) - 1.0) < 0.02
