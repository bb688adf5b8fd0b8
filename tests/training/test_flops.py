import jax
import jax.numpy as jnp
import pytest

from ernie_vilg_jax.models.attention import plain_attention
from ernie_vilg_jax.sharding.splash_attention import splash
from ernie_vilg_jax.training.flops import computed_flops, count_flops
from tests.training.test_meshes import a_batch, mesh_of, task_on, tiny


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


def test_a_kernel_counts_at_every_place_of_its_grid() -> None:
    q, k = jnp.zeros((2, 256, 4, 64)), jnp.zeros((2, 384, 4, 64))
    inputs = q, k, k, jnp.ones((2, 1, 1, 384), bool)
    plain = count_flops(plain_attention, *inputs)
    assert count_flops(splash, *inputs) == plain

    def loss(q: jax.Array) -> jax.Array:
        return splash(q, *inputs[1:]).sum()

    # Two products of six forward; both backward kernels recompute the logits: nine of six.
    assert count_flops(jax.grad(loss), q) == pytest.approx(9 / 2 * plain, rel=1e-3)


@pytest.mark.slow
@pytest.mark.proofs
@pytest.mark.parametrize("keep", ["nothing", pytest.param("heavy", marks=pytest.mark.hosts)])
def test_recomputation_by_remat_is_not_model_work(keep: str) -> None:
    """MFU is the same with remat and without; HFU is larger with it."""
    mesh = mesh_of({"data": 1})
    needed, computed = {}, {}
    for remat in (False, True):
        config = tiny(**{"model.unet.remat": remat, "model.unet.remat_keep": keep, "model.text_encoder.remat": remat})
        with jax.set_mesh(mesh):
            task = task_on(mesh, config)
            batch = a_batch(config, mesh)
            needed[remat], computed[remat] = task.flops_per_step(batch), computed_flops(task, batch)
    assert needed[False] == needed[True] == computed[False]
    assert 1.01 * needed[True] < computed[True] < 4 / 3 * needed[True], "at most a second forward pass"
