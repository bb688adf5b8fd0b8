import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from configs.paper import get_config
from ernie_vilg_jax.model import build_model
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.sharding.mesh import make_mesh


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        ("/down_0_res_0/conv_in/kernel", (3, 3, 64, 128), P(None, None, "fsdp", "tensor")),
        ("/layer_00/mlp_out/kernel", (256, 64), P("tensor", "fsdp")),
        ("/tokens/embedding", (100, 64), P(None, "fsdp")),
        ("/norm/scale", (64,), P(None)),
        ("/conv_in/kernel", (3, 3, 3, 64), P(None, None, None, "tensor")),  # 3 channels do not divide
    ],
)
def test_rules(path: str, shape: tuple[int, ...], spec: P) -> None:
    assert rules.spec_of(path, shape, make_mesh({"fsdp": 4, "tensor": 2, "data": 1})) == spec


def test_stacked_experts_lead_with_their_axis() -> None:
    mesh = make_mesh({"data": 1, "fsdp": 4, "expert": 2})
    assert rules.spec_of("/qkv/kernel", (10, 64, 192), mesh, lead=("expert",)) == P("expert", "fsdp", "tensor")
    assert rules.spec_of("/qkv/kernel", (3, 64, 192), mesh, lead=("expert",)) == P(None, "fsdp", "tensor")


def test_the_paper_unet_shards_over_fsdp() -> None:
    """Over 8 devices, less than a fifth of the U-Net's parameters lie on each."""
    model = build_model(get_config())
    mesh = make_mesh({"data": 1, "fsdp": 8})
    params = model.abstract_unet()
    placed = rules.placed(params, rules.shardings(params, mesh))
    size = lambda shape: jnp.prod(jnp.array(shape, jnp.float32))  # noqa: E731
    total = sum(size(leaf.shape) for leaf in jax.tree.leaves(placed))
    local = sum(size(leaf.sharding.shard_shape(leaf.shape)) for leaf in jax.tree.leaves(placed))
    assert local / total < 0.2
