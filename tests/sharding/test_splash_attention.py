"""The attention kernel of TPU, run by its interpreter: the same numbers as plain attention, alone and over a mesh."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from ernie_vilg_jax.models.attention import Attention, plain_attention
from ernie_vilg_jax.sharding import splash_attention
from ernie_vilg_jax.sharding.splash_attention import make_attention, splash

INTERPRETED: Attention = partial(splash, interpret=True)


def arrays(positions: int = 256, words: int = 77, heads: int = 4) -> tuple[jax.Array, ...]:
    keys = jax.random.split(jax.random.key(0, impl="rbg"), 3)
    q = jax.random.normal(keys[0], (4, positions, heads, 64))
    k, v = (jax.random.normal(key, (4, words + positions, heads, 64)) for key in keys[1:])
    lengths = jnp.array([1, 5, 40, words])[:, None]
    seen = (jnp.arange(words + positions) >= words) | (jnp.arange(words + positions) < lengths)
    return q, k, v, seen[:, None, None, :]


def gradients(how: Attention, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> tuple:
    return jax.grad(lambda q, k, v: jnp.sin(how(q, k, v, mask)).sum(), argnums=(0, 1, 2))(q, k, v)


def test_kernel_gives_the_numbers_of_plain_attention() -> None:
    inputs = arrays()
    np.testing.assert_allclose(INTERPRETED(*inputs), plain_attention(*inputs), atol=3e-6)
    for ours, plain in zip(gradients(INTERPRETED, *inputs), gradients(plain_attention, *inputs), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5)


@pytest.mark.parametrize("sizes", [(1, 4, 2, 1), (2, 1, 2, 2), (1, 1, 1, 8)])
def test_over_a_mesh_and_inside_of_a_shard_map(sizes: tuple[int, ...]) -> None:
    """The last mesh has more devices along `tensor` than there are heads: heads stay whole."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(sizes), ("expert", "data", "fsdp", "tensor"))
    inputs = arrays()

    def over(*inputs: jax.Array) -> jax.Array:
        return splash_attention._over(jax.sharding.get_abstract_mesh(), INTERPRETED, *inputs)

    def group(*inputs: jax.Array) -> tuple:
        return over(*inputs), gradients(over, *inputs)

    own = PartitionSpec("expert")
    with jax.set_mesh(mesh):
        groups = jax.shard_map(group, in_specs=own, out_specs=own, axis_names={"expert"}, check_vma=False)
        out, grads = jax.jit(groups)(*inputs)
    np.testing.assert_allclose(out, plain_attention(*inputs), atol=3e-6)
    for ours, plain in zip(grads, gradients(plain_attention, *inputs), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5)


def _kernels(kernel_from: int, positions: int, platform: str) -> int:
    inputs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays(positions)]
    device = jax.sharding.AbstractDevice(platform, None, platform)
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((2, 2), ("data", "tensor"), abstract_device=device)):
        return str(jax.make_jaxpr(make_attention(kernel_from))(*inputs)).count("pallas_call")


def test_kernel_is_for_tpus_and_many_positions() -> None:
    assert _kernels(256, 256, "tpu") == 1
    assert _kernels(257, 256, "tpu") == 0, "too few"
    assert _kernels(0, 256, "tpu") == 0, "never"
    assert _kernels(128, 200, "tpu") == 0, "not a multiple of 128"
    assert _kernels(256, 256, "cpu") == 0
