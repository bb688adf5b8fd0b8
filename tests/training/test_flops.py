import jax
import jax.numpy as jnp
import pytest

from ernie_vilg_jax.training.flops import count_flops


def test_matrix_product() -> None:
    assert count_flops(jnp.matmul, jnp.zeros((5, 7)), jnp.zeros((7, 11))) == 2 * 5 * 7 * 11


def test_convolution() -> None:
    def convolve(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    x, w = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 5))
    assert count_flops(convolve, x, w) == 2 * (2 * 8 * 8 * 5) * (3 * 3 * 3)
    both = count_flops(jax.grad(lambda x, w: convolve(x, w).sum(), argnums=(0, 1)), x, w)
    assert both == pytest.approx(3 * count_flops(convolve, x, w), rel=0.01), "forward and two more for the gradients"


def test_loops_count_as_often_as_they_run() -> None:
    def loop(x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda c, _: (jax.jit(jnp.matmul)(c, c), None), x, length=6)[0]

    assert count_flops(loop, jnp.zeros((4, 4))) == 6 * 2 * 4**3
