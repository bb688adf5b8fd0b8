"""The attention of a U-Net block: jax's own, or a kernel on TPU if there are many positions.

Plain attention writes its logits [B, heads, N, L + N] to memory, which for 4096 positions is most of a block's memory
traffic. The splash kernel (jax.experimental.pallas.ops.tpu.splash_attention) never writes them. The compiler cannot
partition a kernel, so a shard_map gives each device its own images and heads.
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from ernie_vilg_jax.models.attention import HEAVY, Attention, plain_attention
from ernie_vilg_jax.models.layers import platform

LANES = 128
"""The kernel needs multiples of this many keys and queries."""
LARGEST_BLOCK = 512


@cache
def make_attention(kernel_from: int) -> Attention:
    """attention(q [B, N, heads, d], k, v [B, M, heads, d], mask [B, 1, 1, M]) -> [B, N, heads, d].

    On TPU the kernel, from `kernel_from` positions N on (0: never); otherwise `plain_attention`. The target comes from
    the mesh under which a program is traced, so a program compiled for an absent TPU gets the kernel, too.
    """

    def attention(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
        positions = q.shape[1]
        if kernel_from and positions >= kernel_from and positions % LANES == 0 and platform() == "tpu":
            return _over(jax.sharding.get_abstract_mesh(), splash, q, k, v, mask)
        return plain_attention(q, k, v, mask)

    return attention


def splash(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, interpret: bool = False) -> jax.Array:
    """Attention by the kernel, on one device; shapes as in `make_attention`. `interpret` runs it without a TPU."""
    from jax.experimental.pallas.ops.tpu.splash_attention import SegmentIds

    (_, n, heads, d), m = q.shape, k.shape[1]
    more = -m % LANES
    k, v = (jnp.pad(a, ((0, 0), (0, more), (0, 0), (0, 0))) for a in (k, v))
    # Queries and keys see each other if their segments are equal; padding is in another segment.
    seen = jnp.pad(mask[:, 0, 0], ((0, 0), (0, more))).astype(jnp.int32)
    segments = SegmentIds(q=jnp.ones((q.shape[0], n), jnp.int32), kv=seen)
    kernel = _kernel(heads, n, m + more, interpret)
    q, k, v = (a.transpose(0, 2, 1, 3) for a in (q * d**-0.5, k, v))
    return jax.vmap(kernel)(q, k, v, segments).transpose(0, 2, 1, 3)


def _kernel(heads: int, n: int, m: int, interpret: bool) -> Any:
    from jax.experimental.pallas.ops.tpu.splash_attention import BlockSizes, FullMask, MultiHeadMask, make_splash_mha

    rows, columns = _block(n), _block(m)
    sizes = BlockSizes(
        **dict.fromkeys(("block_q", "block_q_dkv", "block_q_dq"), rows),
        **dict.fromkeys(("block_kv", "block_kv_dkv", "block_kv_dq"), columns),
    )
    mask = MultiHeadMask([FullMask((n, m))] * heads)
    # With `unet.remat_keep`, this name keeps the forward results that the backward pass needs.
    names: Any = {"residual_checkpoint_name": HEAVY, "interpret": interpret}
    return make_splash_mha(mask, block_sizes=sizes, head_shards=1, q_seq_shards=1, **names)


def _block(size: int) -> int:
    """The largest block for the kernel: a multiple of `LANES` that divides `size`."""
    return max(block for block in range(LANES, LARGEST_BLOCK + 1, LANES) if size % block == 0)


def _over(
    mesh: AbstractMesh, attention: Attention, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array
) -> jax.Array:
    """`attention` on every device, with its images along `data` and `fsdp` and its heads along `tensor`."""
    # Axes of an enclosing shard_map are not Auto.
    kinds = zip(mesh.axis_names, mesh.axis_sizes, mesh.axis_types, strict=True)
    auto = {axis: size for axis, size, kind in kinds if kind == AxisType.Auto}
    if not auto:
        return attention(q, k, v, mask)

    def cutting(size: int, *axes: str) -> tuple[str, ...]:
        """Those of `axes` along which a dimension of this size can be cut, in turn."""
        found = []
        for axis in axes:
            if auto.get(axis, 1) > 1 and size % auto[axis] == 0:
                size //= auto[axis]
                found.append(axis)
        return tuple(found)

    batch, heads = cutting(q.shape[0], "expert", "data", "fsdp"), cutting(q.shape[2], "tensor")
    along = PartitionSpec(batch or None, None, heads or None)
    return jax.shard_map(
        attention,
        in_specs=(along, along, along, PartitionSpec(batch or None)),
        out_specs=along,
        axis_names=set(auto),
        check_vma=False,
    )(q, k, v, mask)
