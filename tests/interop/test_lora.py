"""Adapters as .safetensors: names that other tools know, and back without loss."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from configs.demo import get_config
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import layout
from ernie_vilg_jax.interop import lora as files
from ernie_vilg_jax.interop.lora import Lora
from ernie_vilg_jax.model import Model, build_model
from ernie_vilg_jax.models import lora

TARGETS = ("attn", "emb$", "conv_", "resample", "skip")


@pytest.fixture(scope="module")
def model() -> Model:
    config = get_config("smoke")
    config.model.unet.channel_multipliers = config.model.unet.attention_downsamplings = (1, 2)
    return build_model(config)


def make(model: Model, items: tuple[str, ...], rank: int = 2, scale: float = 0.5) -> Lora:
    shapes, rng, trees = files.network_shapes(model), np.random.default_rng(0), {}
    for item in items:
        of, targets = (shapes["text_encoder"], ("qkv", "out", "mlp", "tokens"))
        if item != "text_encoder":
            of, targets = shapes["unet"], TARGETS
        adapters = jax.eval_shape(lambda of=of, targets=targets: lora.init(jax.random.key(0), of, targets, rank))
        trees[item] = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), adapters)
    return Lora(trees, scale, base="abc")


def deltas(adapters: Lora, item: str) -> dict[str, np.ndarray]:
    """What each adapted array gets."""
    leaves = layout.flat(adapters.trees[item])
    paths = {path.rpartition("/")[0] for path in leaves}
    return {path: adapters.scale * (leaves[f"{path}/a"] @ leaves[f"{path}/b"]) for path in paths}


@pytest.mark.parametrize("items", [("unet",), ("expert_00", "expert_01", "text_encoder"), ("expert_00",)])
def test_a_file_holds_what_was_written(items: tuple[str, ...], model: Model, tmp_path: Path) -> None:
    written = make(model, items)
    size = files.write_file(tmp_path / "x.safetensors", written, model)
    assert size == (tmp_path / "x.safetensors").stat().st_size
    found = files.read(tmp_path / "x.safetensors", model)
    assert set(found.trees) == set(items) and found.base == "abc"
    for item in items:
        before, after = deltas(written, item), deltas(found, item)
        assert before.keys() == after.keys() and len(before) > 4
        for path, delta in before.items():
            np.testing.assert_allclose(after[path], delta, rtol=1e-5, atol=1e-6)


def test_names_and_shapes_are_those_of_kohyas_scripts(model: Model, tmp_path: Path) -> None:
    files.write_file(tmp_path / "x.safetensors", make(model, ("unet", "text_encoder")), model)
    tensors = load_file(tmp_path / "x.safetensors")
    width, rank = 8, 2
    expected = {
        "lora_unet_mid_block_attentions_0_to_q.lora_down.weight": (rank, 2 * width),
        "lora_unet_mid_block_attentions_0_to_k.lora_up.weight": (2 * width, rank),
        "lora_unet_mid_block_attentions_0_to_out_0.lora_down.weight": (rank, 2 * width),
        "lora_unet_mid_block_attentions_0_add_v_proj.lora_down.weight": (rank, 16),
        "lora_unet_up_blocks_1_resnets_0_conv1.lora_up.weight": (width, rank, 1, 1),
        "lora_unet_down_blocks_0_downsamplers_0_conv1.lora_down.weight": (rank, width, 3, 3),
        "lora_unet_down_blocks_1_resnets_0_time_emb_proj.lora_up.weight": (4 * width, rank),
        "lora_te_encoder_layer_0_attention_self_query.lora_down.weight": (rank, 16),
        "lora_te_encoder_layer_0_output_dense.alpha": (),
    }
    for name, shape in expected.items():
        assert tensors[name].shape == shape, name
    assert float(tensors["lora_unet_mid_block_attentions_0_to_q.alpha"]) == 0.5 * rank
    assert all(name.startswith(("lora_unet_", "lora_te_")) for name in tensors)
    files.write_file(tmp_path / "y.safetensors", make(model, ("expert_00", "expert_11")), model)
    assert {name[:12] for name in load_file(tmp_path / "y.safetensors")} == {"lora_unet00_", "lora_unet11_"}


def test_what_other_tools_trained_apart_is_joined(model: Model, tmp_path: Path) -> None:
    """Query, key and value with factors of their own and an alpha of their own are one array here."""
    rng, ours = np.random.default_rng(1), "mid_attn/qkv/kernel"
    tensors: dict[str, np.ndarray] = {}
    expected: list[np.ndarray] = []
    for number, name in enumerate(("to_q", "to_k", "to_v"), 1):
        down, up = rng.standard_normal((number, 16)), rng.standard_normal((16, number))
        module = f"lora_unet_mid_block_attentions_0_{name}"
        tensors |= {
            f"{module}.lora_down.weight": down,
            f"{module}.lora_up.weight": up,
            f"{module}.alpha": np.array(2.0),
        }
        expected.append((up @ down).T * 2.0 / number)
    save_file({name: np.asarray(one, np.float32) for name, one in tensors.items()}, tmp_path / "x.safetensors")
    found = deltas(files.read(tmp_path / "x.safetensors", model), "unet")
    assert list(found) == [ours]
    np.testing.assert_allclose(found[ours], np.concatenate(expected, -1), rtol=1e-4, atol=1e-5)


def damaged(change: str, tensors: dict[str, Any]) -> dict[str, Any]:
    module = "lora_unet_mid_block_attentions_0_to_q"
    if change == "another network":
        return {**tensors, "lora_unet_other.lora_down.weight": np.zeros((2, 2), np.float32)}
    if change == "another size":
        return {**tensors, f"{module}.lora_down.weight": np.zeros((2, 99), np.float32)}
    if change == "a third is missing":
        return {name: one for name, one in tensors.items() if not name.startswith(module)}
    if change == "half is missing":
        return {name: one for name, one in tensors.items() if name != f"{module}.lora_up.weight"}
    return {**tensors, f"{module}.lora_up.weight": np.full((16, 2), np.nan, np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("another network", "has adapters of another network: 1 of its"),
        ("another size", r"to_q is \[2, 99\] and"),
        ("a third is missing", "lacks lora_unet_mid_block_attentions_0_to_q, which goes with"),
        ("half is missing", "lacks a tensor of lora_unet_mid_block_attentions_0_to_q"),
        ("no numbers", "NaN or infinite"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(change: str, message: str, model: Model, tmp_path: Path) -> None:
    files.write_file(tmp_path / "x.safetensors", make(model, ("unet",)), model)
    save_file(damaged(change, load_file(tmp_path / "x.safetensors")), tmp_path / "y.safetensors")
    with pytest.raises(UserError, match=message):
        files.read(tmp_path / "y.safetensors", model)


def test_adapters_of_one_unet_are_for_every_expert_of_a_bank(model: Model) -> None:
    adapters, shapes = make(model, ("unet",)), files.network_shapes(model)["unet"]
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    one, other = (layout.flat(adapters.merged(item, params)) for item in ("expert_00", "expert_07"))
    assert all(np.array_equal(one[path], other[path]) for path in one)
    assert any(one[path].any() for path in one)
    assert adapters.merged("text_encoder", params) is params
