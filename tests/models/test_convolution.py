from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from ernie_vilg_jax.models import autoencoder, convolution, unet, winograd
from ernie_vilg_jax.models.autoencoder import Autoencoder
from ernie_vilg_jax.models.convolution import Conv
from ernie_vilg_jax.models.unet import UNet
from ernie_vilg_jax.training.flops import count_flops

LAYOUT = ("NHWC", "HWIO", "NHWC")
Kernelled = Callable[[jax.Array, jax.Array], jax.Array]


def ours(x: jax.Array, k: jax.Array, strides: Any = (1, 1), padding: Any = "SAME", **settings: Any) -> jax.Array:
    return convolution.convolution(x, k, strides, padding, dimension_numbers=LAYOUT, **settings)


def by_jax(x: jax.Array, k: jax.Array, strides: Any = (1, 1), padding: Any = "SAME", **settings: Any) -> jax.Array:
    return lax.conv_general_dilated(x, k, strides, padding, dimension_numbers=LAYOUT, **settings)


def arrays(*shapes: tuple[int, ...]) -> list[jax.Array]:
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes]


def close(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-6 * float(jnp.abs(b).max()))


def gradients(function: Kernelled, *args: jax.Array) -> Any:
    return jax.jit(jax.grad(lambda x, k: jnp.sum(function(x, k) ** 3), argnums=(0, 1)))(*args)


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Winograd's products wherever they are possible, so that small arrays test them."""
    monkeypatch.setattr(convolution, "NARROWEST", 1)
    monkeypatch.setattr(convolution, "FEWEST", dict.fromkeys(convolution.FEWEST, 0))
    convolution._compiled.cache_clear()
    jax.clear_caches()


def products(function: Callable[..., Any], *args: Any, platform: str = "cpu") -> int:
    """Matrix products in the lowered program."""
    return jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).as_text().count("dot_general")


@pytest.mark.parametrize("shape", [(2, 4, 6, 5, 3), (1, 2, 2, 1, 1), (3, 8, 4, 16, 8)])
def test_products_are_the_convolution_and_its_transposes(shape: tuple[int, ...]) -> None:
    b, h, w, c, o = shape
    x, k, g = arrays((b, h, w, c), (3, 3, c, o), (b, h, w, o))
    result, transpose = jax.vjp(by_jax, x, k)
    to_input, to_kernel = transpose(g)
    close(winograd.forward(x, k), result)
    close(winograd.to_input(g, k), to_input)
    close(winograd.to_kernel(x, g), to_kernel)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(
    ("kernel", "strides", "padding", "side", "fast"),
    [
        ((3, 3), (1, 1), "SAME", 6, True),
        ((3, 3), (1, 1), "SAME", 5, False),
        ((3, 3), (2, 2), ((0, 1), (0, 1)), 6, False),
        ((3, 3), (1, 1), "VALID", 6, False),
        ((1, 1), (1, 1), "SAME", 6, False),
    ],
)
def test_every_convolution_of_the_models_is_that_of_jax(
    kernel: tuple[int, int], strides: tuple[int, int], padding: Any, side: int, fast: bool
) -> None:
    x, k = arrays((2, side, side, 4), (*kernel, 4, 6))
    run = lambda f: lambda x, k: f(x, k, strides, padding)  # noqa: E731
    assert products(run(ours), x, k) == 16 * fast
    close(run(ours)(x, k), run(by_jax)(x, k))
    close(gradients(run(ours), x, k), gradients(run(by_jax), x, k))


@pytest.mark.parametrize(("side", "fast"), [(2, True), (4, False), (32, True)])
def test_small_sides_and_many_tiles_take_products(side: int, fast: bool) -> None:
    """Between them are too few tiles; XLA has no fast convolution for less than three pixels."""
    x, k = arrays((2, side, side, 64), (3, 3, 64, 64))
    assert products(ours, x, k) == 16 * fast
    close(ours(x, k), by_jax(x, k))


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("argument", [0, 1])
def test_transposes_can_be_transposed(argument: int) -> None:
    x, k = arrays((2, 4, 4, 3), (3, 3, 3, 2))

    def twice(function: Kernelled) -> Any:
        inner = lambda x, k: jax.grad(lambda *a: jnp.sum(function(*a) ** 3), argnums=argument)(x, k)  # noqa: E731
        return jax.jit(jax.grad(lambda x, k: jnp.sum(inner(x, k) ** 2), argnums=(0, 1)))(x, k)

    close(twice(ours), twice(by_jax))


@pytest.mark.usefixtures("everywhere")
def test_under_the_transformations_of_jax() -> None:
    x, k = arrays((4, 4, 4, 3), (3, 3, 3, 2))
    close(jax.vmap(ours, (0, None))(x[:, None], k), jax.vmap(by_jax, (0, None))(x[:, None], k))
    close(jax.jvp(ours, (x, k), (x, k)), jax.jvp(by_jax, (x, k), (x, k)))
    remat = lambda x, k: jax.checkpoint(ours)(x, k)  # noqa: E731
    close(gradients(remat, x, k), gradients(by_jax, x, k))
    mesh, spec = Mesh(np.asarray(jax.devices()[:2]), ("data",)), PartitionSpec("data")
    for check in (False, True):
        cut = jax.shard_map(ours, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec, check_vma=check)
        close(gradients(cut, x, k), gradients(by_jax, x, k))
    scan = lambda x, k: lax.scan(lambda c, one: (c, ours(one, k)), 0, x[:, None])[1][:, 0]  # noqa: E731
    close(jax.jit(scan)(x, k), by_jax(x, k))


def test_the_precision_around_it_counts() -> None:
    x, k = arrays((1, 4, 4, 3), (3, 3, 3, 2))

    def text(function: Kernelled, precision: str) -> str:
        def f(x: jax.Array, k: jax.Array) -> jax.Array:
            with jax.default_matmul_precision(precision):
                return function(x, k)

        return jax.jit(f).trace(x, k).lower(lowering_platforms=("tpu",)).as_text()

    for precision in ("default", "high", "highest"):
        assert text(ours, precision) == text(by_jax, precision)


def test_its_operations_are_counted() -> None:
    x, k = arrays((64, 8, 8, 64), (3, 3, 64, 64))
    step = lambda f: lambda x, k: jax.grad(lambda x, k: jnp.sum(f(x, k) ** 2), argnums=(0, 1))(x, k)  # noqa: E731
    assert count_flops(step(ours), x, k) == count_flops(step(by_jax), x, k)


def u_net() -> tuple[UNet, tuple[jax.Array, ...]]:
    model = UNet(64, (1, 2), num_res_blocks=1, attention_downsamplings=(2,), head_channels=64, remat=True)
    text, mask = jnp.zeros((32, 5, 16)), jnp.ones((32, 5), bool)
    return model, (jnp.zeros((32, 8, 8, 4)), jnp.zeros(32, jnp.int32), text, mask, jnp.zeros((32, 16)))


def auto_encoder() -> tuple[Autoencoder, tuple[jax.Array, ...]]:
    return Autoencoder((64, 64), 1, patch_size=2), (jnp.zeros((8, 32, 32, 3)), jax.random.key(0))


@pytest.mark.proofs
@pytest.mark.parametrize("make", [u_net, auto_encoder])
def test_other_platforms_get_the_same_text(make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def texts(conv: Any) -> dict[str, str]:
        monkeypatch.setattr(unet, "Conv", conv)
        monkeypatch.setattr(autoencoder, "Conv", conv)
        model, args = make()
        shapes = jax.eval_shape(model.init, jax.random.key(0), *args)

        def loss(params: Any) -> jax.Array:
            leaves = jax.tree.leaves(model.apply(params, *args))
            return jnp.sum(jnp.stack([jnp.sum(leaf**2) for leaf in leaves]))

        step = jax.jit(jax.value_and_grad(loss)).trace(shapes)
        return {name: step.lower(lowering_platforms=(name,)).as_text() for name in ("tpu", "cuda", "cpu")}

    old, new = texts(nn.Conv), texts(Conv)
    assert new["tpu"] == old["tpu"]
    assert new["cuda"] == old["cuda"]
    assert new["cpu"] != old["cpu"]


@pytest.mark.parametrize("make", [u_net, auto_encoder])
def test_parameters_are_those_of_flax(make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def shapes(conv: Any) -> Any:
        monkeypatch.setattr(unet, "Conv", conv)
        monkeypatch.setattr(autoencoder, "Conv", conv)
        model, args = make()
        return jax.eval_shape(model.init, jax.random.key(0), *args)

    assert shapes(Conv) == shapes(nn.Conv)
