"""The convolution of the U-Net and the autoencoder: XLA's, except where matrix products are faster on a CPU.

    Conv(features, (3, 3), ...)     nn.Conv, with its parameters and results

What computes a 3x3 convolution is decided by `_faster` when a program is lowered, by shapes and the platform that it is
lowered for: a CPU host that compiles for TPUs gets the program for TPUs, which is the same text as with nn.Conv. The
convolution and its two transposes are one primitive, closed under differentiation:

    forward(x, k) -> y        to_input(y, k) -> x        to_kernel(x, y) -> k
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from ernie_vilg_jax.models import winograd

LAYOUT = ("NHWC", "HWIO", "NHWC")
NARROWEST = 64
"""Channels in and out below which the transforms take longer than they save."""
FEWEST = {"forward": 512, "to_input": 512, "to_kernel": 64}
"""Tiles (pixels / 4, of all images) below which they do, too, or take longer to compile than a few samples to make."""
SMALLEST = 3
"""Pixels of a side below which XLA itself loops over pixels: products take a fifteenth to a thirtieth of its time."""
LARGEST = 2**24
"""Numbers in x above which its tiles, four times as many, would take more than 256 MiB."""


def convolution(
    x: jax.Array, kernel: jax.Array, window_strides: Sequence[int], padding: Any, **settings: Any
) -> jax.Array:
    """`jax.lax.conv_general_dilated`, as nn.Conv calls it."""
    plain = {"lhs_dilation": (1, 1), "rhs_dilation": (1, 1), "feature_group_count": 1}
    simple = (
        (kernel.shape[:-2], x.ndim, tuple(window_strides), padding) == ((3, 3), 4, (1, 1), "SAME")
        and x.dtype == kernel.dtype == jnp.float32
        # In a shard_map a transpose sums over devices: jax's own arranges that, in ways that change by version.
        and not jax.sharding.get_abstract_mesh().manual_axes
        and all(settings.get(name, value) == value for name, value in plain.items())
    )
    if not simple:
        return lax.conv_general_dilated(x, kernel, window_strides, padding, **settings)
    precision = settings.get("precision") or jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    reference = _reference(jax.typeof(x), jax.typeof(kernel), precision)
    return primitive.bind(x, kernel, kind="forward", reference=reference)


Conv = partial(nn.Conv, conv_general_dilated=convolution)


def _faster(kind: str, first: Any, second: Any) -> bool:
    """Whether matrix products are faster than XLA's convolution on CPUs; see benchmarks/NOTES.md."""
    b, h, w, channels = first.shape
    narrow = min(channels, second.shape[-1], second.shape[-2] if kind != "to_kernel" else channels)
    fits = b * h * w * max(channels, second.shape[-1]) <= LARGEST
    gains = min(h, w) < SMALLEST or b * h * w // 4 >= FEWEST[kind]
    return h % 2 == w % 2 == 0 and narrow >= NARROWEST and fits and gains


def _on_cpu(first: jax.Array, second: jax.Array, *, kind: str, reference: ClosedJaxpr) -> list[jax.Array]:
    if _faster(kind, first, second):
        products: dict[str, Callable[..., jax.Array]] = {
            "forward": winograd.forward,
            "to_input": winograd.to_input,
            "to_kernel": winograd.to_kernel,
        }
        return [products[kind](first, second)]
    return _by_xla(first, second, kind=kind, reference=reference)


def _by_xla(first: jax.Array, second: jax.Array, *, kind: str, reference: ClosedJaxpr) -> list[jax.Array]:
    del kind
    return jaxpr_as_fun(reference)(first, second)


# ---- the same computations in XLA's words ---------------------------------------------------------------------------


@cache
def _reference(x: Any, kernel: Any, precision: Any) -> ClosedJaxpr:
    convolve = partial(lax.conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=LAYOUT)
    return jax.make_jaxpr(partial(convolve, precision=precision))(x, kernel)


@cache
def _transposed(reference: ClosedJaxpr, argument: int, swapped: bool) -> ClosedJaxpr:
    """The transpose of `reference` in an argument, as a function of (cotangent, other argument), or `swapped`."""
    here, other = reference.in_avals[argument], reference.in_avals[1 - argument]

    def transpose(*args: jax.Array) -> jax.Array:
        cotangent, known = reversed(args) if swapped else args
        fill = lambda a: jaxpr_as_fun(reference)(*((a, known) if argument == 0 else (known, a)))[0]  # noqa: E731
        return jax.linear_transpose(fill, here)(cotangent)[0]

    args = reference.out_avals[0], other
    return jax.make_jaxpr(transpose)(*(reversed(args) if swapped else args))


# ---- the primitive ---------------------------------------------------------------------------------------------------

TRANSPOSES = {
    ("forward", 0): ("to_input", False),
    ("forward", 1): ("to_kernel", True),
    ("to_input", 0): ("forward", False),
    ("to_input", 1): ("to_kernel", False),
    ("to_kernel", 0): ("to_input", True),
    ("to_kernel", 1): ("forward", True),
}
"""(kind, argument) -> the kind of its transpose in that argument, and whether the cotangent is its second argument."""


def _transpose(argument: int, cotangent: jax.Array, *args: Any, kind: str, reference: ClosedJaxpr) -> jax.Array:
    known = args[1 - argument]
    kind, swapped = TRANSPOSES[kind, argument]
    pair = (known, cotangent) if swapped else (cotangent, known)
    return primitive.bind(*pair, kind=kind, reference=_transposed(reference, argument, swapped))


def _batched(args: Any, axes: Any, **params: Any) -> tuple[jax.Array, int]:
    """Under vmap: as XLA does it."""
    return jax.vmap(partial(_by_xla, **params), axes)(*args)[0], 0


@cache
def _compiled(kind: str, reference: ClosedJaxpr) -> Callable[..., jax.Array]:
    return jax.jit(partial(primitive.bind, kind=kind, reference=reference))


primitive = Primitive("convolution_3x3")
primitive.def_impl(lambda first, second, **params: _compiled(**params)(first, second))
primitive.def_abstract_eval(lambda first, second, *, kind, reference: reference.out_avals[0])
ad.defbilinear(primitive, partial(_transpose, 0), partial(_transpose, 1))
batching.primitive_batchers[primitive] = _batched
mlir.register_lowering(primitive, mlir.lower_fun(lambda *a, **params: _by_xla(*a, **params)[0], multiple_results=False))
on_cpu = mlir.lower_fun(lambda *a, **params: _on_cpu(*a, **params)[0], multiple_results=False)
mlir.register_lowering(primitive, on_cpu, platform="cpu")
