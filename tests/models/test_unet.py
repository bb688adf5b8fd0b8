from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.models.unet import UNet, timestep_embedding

KEY = jax.random.key(0, impl="rbg")


def tiny(**changes: Any) -> Any:
    sizes = {"base_channels": 8, "channel_multipliers": (1, 2), "num_res_blocks": 1, "head_channels": 8}
    return UNet(**{**sizes, "attention_downsamplings": (1, 2), "latent_channels": 3, **changes})


def arguments(length: int = 5) -> tuple[jax.Array, ...]:
    x = jax.random.normal(KEY, (2, 4, 4, 3))
    text = jax.random.normal(KEY, (2, length, 6))
    return x, jnp.array([3, 900]), text, jnp.ones((2, length), bool), text.mean(1)


def randomised(unet: UNet, *args: jax.Array) -> dict:
    """Parameters without the zeros of initialisation, so that every path matters."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(unet.init, KEY, *args)
    return jax.tree.map(lambda leaf: 0.2 * rng.standard_normal(leaf.shape).astype(np.float32), shapes)


@cache
def applied(**options: Any) -> Any:
    """`tiny(**options).apply` as one program: it is compiled in less time than its operations one by one."""
    return jax.jit(tiny(**options).apply)


@cache
def gradient(**options: Any) -> tuple[Any, int]:
    """The gradient of a loss of a U-Net of one level, and how many convolutions its compiled program has."""
    args = arguments()
    unet = partial(tiny, channel_multipliers=(1,), attention_downsamplings=(1,))
    params = randomised(unet(), *args)
    program = jax.jit(jax.grad(lambda p: jnp.sum(unet(**options).apply(p, *args) ** 2))).lower(params).compile()
    return program(params), str(program.as_text()).count(" convolution(")


def test_starts_as_zero_and_keeps_the_shape() -> None:
    args = arguments()
    epsilon = applied()(jax.jit(tiny().init)(KEY, *args), *args)
    assert epsilon.shape == args[0].shape
    np.testing.assert_array_equal(epsilon, 0.0)


def test_padding_is_never_seen() -> None:
    unet = tiny()
    x, t, text, mask, pooled = arguments(7)
    mask = mask.at[:, 4:].set(False)
    params = randomised(unet, x, t, text, mask, pooled)
    before = applied()(params, x, t, text, mask, pooled)
    after = applied()(params, x, t, text.at[:, 4:].set(99.0), mask, pooled)
    np.testing.assert_array_equal(before, after)
    short = applied()(params, x, t, text[:, :4], mask[:, :4], pooled)
    np.testing.assert_allclose(before, short, atol=1e-5)


@pytest.mark.parametrize("changed", ["text", "pooled", "timesteps"])
def test_every_condition_matters(changed: str) -> None:
    unet = tiny()
    x, t, text, mask, pooled = arguments()
    params = randomised(unet, x, t, text, mask, pooled)
    before = applied()(params, x, t, text, mask, pooled)
    values = {"text": (t, -text, pooled), "pooled": (t, text, -pooled), "timesteps": (t + 50, text, pooled)}
    t2, text2, pooled2 = values[changed]
    assert np.abs(before - applied()(params, x, t2, text2, mask, pooled2)).max() > 1e-3


def test_pooled_text_can_be_switched_off() -> None:
    unet = tiny(pooled_text=False)
    x, t, text, mask, pooled = arguments()
    params = randomised(unet, x, t, text, mask, pooled)
    assert "pooled" not in params["params"]
    apply = applied(pooled_text=False)
    np.testing.assert_array_equal(apply(params, x, t, text, mask, pooled), apply(params, x, t, text, mask, -pooled))


def test_half_precision_keeps_parameters_and_output_in_fp32() -> None:
    args = arguments()
    half = tiny(dtype=jnp.bfloat16)
    params = randomised(half, *args)
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(half.init, KEY, *args))} == {jnp.dtype("float32")}
    epsilon, exact = applied(dtype=jnp.bfloat16)(params, *args), applied()(params, *args)
    assert epsilon.dtype == jnp.float32
    np.testing.assert_allclose(epsilon, exact, atol=0.05 * float(jnp.abs(exact).max()))


@pytest.mark.parametrize("keep", ["nothing", pytest.param("heavy", marks=pytest.mark.proofs)])
def test_remat_changes_nothing(keep: str) -> None:
    (plain, _), (again, _) = gradient(), gradient(remat=True, remat_keep=keep)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, again)


def test_remat_recomputes_what_it_does_not_keep() -> None:
    """Counted in the compiled program: the compiler may merge the two computations and keep the result."""
    _, plain = gradient()
    assert gradient(remat=True, remat_keep="nothing")[1] > plain
    assert gradient(remat=True, remat_keep="heavy")[1] == plain


def test_latents_that_do_not_divide_are_refused() -> None:
    unet = tiny()
    x, *rest = arguments()
    with pytest.raises(ValueError, match="3x4 must be multiples of 2"):
        jax.eval_shape(unet.init, KEY, x[:, :3], *rest)


def test_channels_that_do_not_divide_into_heads_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unet\.head_channels"):
        jax.eval_shape(tiny(head_channels=3).init, KEY, *arguments())


def test_timestep_embedding_by_hand() -> None:
    out = np.asarray(timestep_embedding(jnp.array([0, 7]), 4))
    angles = 7 * np.array([1.0, 10_000.0**-0.5])
    np.testing.assert_allclose(out[0], [1, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(out[1], [*np.cos(angles), *np.sin(angles)], atol=1e-6)
