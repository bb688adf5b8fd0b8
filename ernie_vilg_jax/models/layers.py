"""Dense and GroupNorm with Flax's parameters and results, computed in another way on CPUs, where XLA's is slow.

XLA's CPU backend sums many rows slowly, and copies operands of products that have more than two axes: here both are
products of matrices (times in benchmarks/NOTES.md). Results differ in the order of sums alone. The platform is that of
the mesh under which a program is traced, so a CPU host that compiles for TPUs gets the program for TPUs.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype

Dtype = jax.typing.DTypeLike


def platform() -> str:
    """What the program being traced is for: "cpu", "gpu" or "tpu"."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()


def on_cpu() -> bool:
    return platform() == "cpu"


class Dense(nn.Dense):
    """nn.Dense of x [..., C], with a bias."""

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        if not on_cpu():
            return super().__call__(inputs)
        kernel = self.param("kernel", self.kernel_init, (inputs.shape[-1], self.features), self.param_dtype)
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        x, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        rows = jnp.dot(x.reshape(-1, x.shape[-1]), kernel, precision=self.precision)
        return add_bias(rows, bias).reshape(*x.shape[:-1], -1)


@jax.custom_vjp
def add_bias(rows: jax.Array, bias: jax.Array) -> jax.Array:
    """rows [N, D] + bias [D]."""
    return rows + bias


def _bias_gradient(_: None, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    return g, jnp.ones(g.shape[0], g.dtype) @ g


add_bias.defvjp(lambda rows, bias: (rows + bias, None), _bias_gradient)


class GroupNorm(nn.Module):
    """GroupNorm of x [B, ..., C] with fp32 statistics whatever the compute dtype.

    Groups shrink until they divide the channels.
    """

    num_groups: int = 32
    epsilon: float = 1e-5
    fast_variance: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        groups = self.num_groups
        while x.shape[-1] % groups:
            groups //= 2
        how: Any = {"epsilon": self.epsilon, "use_fast_variance": self.fast_variance, "dtype": jnp.float32}
        norm = (_GroupNormByProducts if on_cpu() else nn.GroupNorm)(groups, **how, name="norm")
        return norm(x.astype(jnp.float32)).astype(self.dtype)


class _GroupNormByProducts(nn.GroupNorm):
    """nn.GroupNorm whose sums are products: over pixels with ones, over a group's channels with a matrix."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels, groups = x.shape[-1], self.num_groups or 1
        scale = self.param("scale", self.scale_init, (channels,), self.param_dtype)
        bias = self.param("bias", self.bias_init, (channels,), self.param_dtype)
        rows = x.reshape(x.shape[0], -1, channels)
        member = np.repeat(np.eye(groups, dtype=np.float32), channels // groups, axis=0)  # [C, groups]
        ones = jnp.full((*rows.shape[:1], 1, rows.shape[1]), groups / (rows.shape[1] * channels), jnp.float32)

        def mean(a: jax.Array) -> jax.Array:
            return (ones @ a) @ member  # [B, 1, groups]

        centre = mean(rows)
        if self.use_fast_variance:
            variance = jnp.maximum(mean(rows * rows) - centre * centre, 0)
        else:
            variance = mean(jnp.square(rows - centre @ member.T))
        factor = (jax.lax.rsqrt(variance + self.epsilon) @ member.T) * scale
        return ((rows - centre @ member.T) * factor + bias).reshape(x.shape)
