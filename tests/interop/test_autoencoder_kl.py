"""Supported and refused fields of AutoencoderKL's config.json; old names; the round trip, bit for bit."""

from typing import Any

import jax
import numpy as np
import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import autoencoder_kl
from ernie_vilg_jax.interop.safetensors_files import Tensors

FIELDS = {"channels": (8, 16, 16), "num_res_blocks": 1, "latent_channels": 3, "patch_size": 1, "norm_groups": 4}


def autoencoder(mean: Any = 0.0, std: Any = 1 / 0.18215, fields: Any = FIELDS) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = autoencoder_kl.abstract(fields)
    params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes)
    latents = (np.broadcast_to(np.float32(value), 3).copy() for value in (mean, std))
    return dict(zip(("params", "mean", "std"), (params, *latents), strict=True))


def in_memory(arrays: dict[str, np.ndarray]) -> Tensors:
    return Tensors("vae", {name: array.shape for name, array in arrays.items()}, arrays.__getitem__)


@pytest.mark.parametrize(
    ("mean", "std", "written"),
    [
        (0.0, 1 / 0.18215, {"scaling_factor": 0.18215}),
        (0.0609, 1 / 1.5305, {"scaling_factor": 1.5305, "shift_factor": pytest.approx(0.0609)}),
        ([0.1, -2.5, 3.0], [0.3, 1 / 3, 7.7], {"scaling_factor": 1.0}),
        (0.3333, 0.7777777, {}),
    ],
)
def test_there_and_back_is_exact(mean: Any, std: Any, written: dict[str, Any]) -> None:
    ours = autoencoder(mean, std)
    config, arrays = autoencoder_kl.write(FIELDS, ours, 64)
    assert {name: config[name] for name in written} == written
    assert "encoder.down_blocks.0.resnets.0.norm1.weight" in arrays
    fields, back = autoencoder_kl.read(config, in_memory(arrays))
    assert fields == FIELDS
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(one, other)
    assert jax.tree.structure(ours) == jax.tree.structure(back)


def test_levels_of_the_decoder_are_counted_from_the_smallest() -> None:
    ours = autoencoder()
    _, arrays = autoencoder_kl.write(FIELDS, ours, 64)
    kernel = ours["params"]["decoder"]["up_2_res_1"]["conv_0"]["kernel"]
    np.testing.assert_array_equal(arrays["decoder.up_blocks.0.resnets.1.conv1.weight"], kernel.transpose(3, 2, 0, 1))
    assert {name for name in arrays if "samplers" in name and name.endswith("weight")} == {
        *(f"encoder.down_blocks.{i}.downsamplers.0.conv.weight" for i in (0, 1)),
        *(f"decoder.up_blocks.{i}.upsamplers.0.conv.weight" for i in (0, 1)),
    }


def test_old_names_of_the_attention() -> None:
    config, arrays = autoencoder_kl.write(FIELDS, autoencoder(), 64)
    old = {"to_q.": "query.", "to_k.": "key.", "to_v.": "value.", "to_out.0.": "proj_attn."}

    def older(name: str) -> str:
        for new, before in old.items():
            name = name.replace(f"attentions.0.{new}", f"attentions.0.{before}")
        return name

    renamed = {older(name): array for name, array in arrays.items()}
    assert renamed.keys() != arrays.keys()
    _, new = autoencoder_kl.read(config, in_memory(arrays))
    _, back = autoencoder_kl.read(config, in_memory(renamed))
    for one, other in zip(jax.tree.leaves(new), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "AutoencoderTiny"}, "_class_name='AutoencoderTiny', but this autoencoder supports only"),
        ({"act_fn": "mish"}, "act_fn='mish'"),
        ({"in_channels": 4}, "in_channels=4"),
        ({"mid_block_add_attention": False}, "mid_block_add_attention=False"),
        ({"up_block_types": ["AttnUpDecoderBlock2D"] * 3}, "up_block_types=.*supports only UpDecoderBlock2D"),
        ({"down_block_types": ["DownEncoderBlock2D"]}, "down_block_types=.*each of the 3 numbers in block_out"),
        ({"scaling_factor": 0}, "scaling_factor"),
        ({"scaling_factor": -1.0}, "must be positive"),
        ({"latents_mean": [1.0, 2.0], "latents_std": [1.0, 1.0]}, "latents_mean in config.json"),
        ({"norm_num_groups": 0}, "does not describe an autoencoder: .*norm_groups=0"),
        ({"layers_per_block": 2}, "vae is not the autoencoder of its config.json: it lacks decoder.up_blocks.*more"),
        ({"latent_channels": 4}, r"conv_in.weight is \[16, 3, 3, 3\], but should be \[16, 4, 3"),
    ],
)
def test_unsupported_fields_are_named(changes: dict[str, Any], message: str) -> None:
    config, arrays = autoencoder_kl.write(FIELDS, autoencoder(), 64)
    with pytest.raises(UserError, match=message):
        autoencoder_kl.read({**config, **changes}, in_memory(arrays))


def test_missing_and_unknown_tensors_are_named() -> None:
    config, arrays = autoencoder_kl.write(FIELDS, autoencoder(), 64)
    del arrays["quant_conv.bias"]
    arrays["ema.decay"] = np.zeros(1, np.float32)
    with pytest.raises(UserError, match=r"it lacks quant_conv\.bias and has ema\.decay, which it should not have"):
        autoencoder_kl.read(config, in_memory(arrays))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 4}, "patch_size=4 has no counterpart in AutoencoderKL"),
        ({"channels": (8, 12), "norm_groups": 8}, r"channels=\(8, 12\) are normalised in 4 and 8 groups"),
    ],
)
def test_fields_that_diffusers_does_not_support_are_named(changes: dict[str, Any], message: str) -> None:
    fields = {**FIELDS, **changes}
    with pytest.raises(UserError, match=message):
        autoencoder_kl.write(fields, autoencoder(fields=fields), 64)


def test_groups_that_shrink_are_written_as_they_compute() -> None:
    fields = {**FIELDS, "channels": (24, 24), "norm_groups": 32}
    assert autoencoder_kl.write(fields, autoencoder(fields=fields), 64)[0]["norm_num_groups"] == 8
