"""3x3 convolutions by matrix products: Winograd's F(2x2, 3x3), for CPUs.

    x [B, H, W, C] -> 16 arrays of [tiles, C] --16 products--> 16 arrays of [tiles, O] -> y [B, H, W, O]

Each tile is the 4x4 neighbourhood of 2x2 results. A tile takes 16 multiplications for each pair of channels where the
definition takes 36, and they are matrix products, which XLA's CPU backend computes with the widest instructions of the
machine; its convolution is compiled for any machine. All is fp32, and the transforms are sums of at most 16 terms: the
error is that of the definition (benchmarks/NOTES.md).

Lavin and Gray, arXiv 1509.09308. Strides and dilations of 1, padding of 1, even H and W.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Line = Sequence[jax.Array]
Square = list[list[jax.Array]]


def forward(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [B, H, W, C], kernel [3, 3, C, O] -> [B, H, W, O]."""
    b, h, w, _ = x.shape
    tiles, weights = _tiles(x), _both_axes(_from_kernel, _square(kernel))
    products = [[tiles[i][j] @ weights[i][j] for j in range(4)] for i in range(4)]
    results = _both_axes(_to_results, products)
    rows = [jnp.stack([one.reshape(b, h // 2, w // 2, -1) for one in row], axis=3) for row in results]
    return jnp.stack(rows, axis=2).reshape(b, h, w, -1)


def to_input(g: jax.Array, kernel: jax.Array) -> jax.Array:
    """The transpose of `forward` in x: g [B, H, W, O], kernel [3, 3, C, O] -> [B, H, W, C]."""
    return forward(g, kernel[::-1, ::-1].swapaxes(2, 3))


def to_kernel(x: jax.Array, g: jax.Array) -> jax.Array:
    """The transpose of `forward` in the kernel: x [B, H, W, C], g [B, H, W, O] -> [3, 3, C, O]."""
    b, h, w, o = g.shape
    pixels = g.reshape(b, h // 2, 2, w // 2, 2, o)
    results = [[pixels[:, :, i, :, j].reshape(-1, o) for j in range(2)] for i in range(2)]
    tiles, results = _tiles(x), _both_axes(_from_results, results)
    products = [[tiles[i][j].T @ results[i][j] for j in range(4)] for i in range(4)]
    return jnp.stack([jnp.stack(row) for row in _both_axes(_to_kernel, products)])


def _tiles(x: jax.Array) -> Square:
    """x [B, H, W, C] -> 4x4 arrays of [B * H/2 * W/2, C]."""
    b, h, w, c = x.shape
    pairs = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(b, h // 2 + 1, 2, w // 2 + 1, 2, c)
    pixels = [
        [pairs[:, i // 2 :, i % 2, j // 2 :, j % 2][:, : h // 2, : w // 2].reshape(-1, c) for j in range(4)]
        for i in range(4)
    ]
    return _both_axes(_from_input, pixels)


def _from_input(d: Line) -> Line:
    return d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]


def _from_kernel(k: Line) -> Line:
    return k[0], 0.5 * (k[0] + k[1] + k[2]), 0.5 * (k[0] - k[1] + k[2]), k[2]


def _to_kernel(u: Line) -> Line:
    """The transpose of `_from_kernel`."""
    return u[0] + 0.5 * (u[1] + u[2]), 0.5 * (u[1] - u[2]), 0.5 * (u[1] + u[2]) + u[3]


def _to_results(m: Line) -> Line:
    return m[0] + m[1] + m[2], m[1] - m[2] - m[3]


def _from_results(y: Line) -> Line:
    """The transpose of `_to_results`."""
    return y[0], y[0] + y[1], y[0] - y[1], -y[1]


def _square(kernel: jax.Array) -> Square:
    return [[kernel[i, j] for j in range(kernel.shape[1])] for i in range(kernel.shape[0])]


def _both_axes(transform: Callable[[Line], Line], square: Square) -> Square:
    """`transform` applied to the columns of `square`, then to the rows of the result."""
    columns = [transform(column) for column in zip(*square, strict=True)]
    return [list(transform(row)) for row in zip(*columns, strict=True)]
