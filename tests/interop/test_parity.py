"""Against the reference implementations in PyTorch, in fp32, with random weights: outputs differ by at most 1e-4.

Random in every tensor, because the usual initialisation (norms of 1, biases of 0) would hide exchanged tensors.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel  # pyright: ignore[reportPrivateImportUsage]
from transformers import BertConfig, BertModel, ErnieConfig, ErnieModel

from ernie_vilg_jax.interop import autoencoder_kl, bert, unet_2d, warm_start
from ernie_vilg_jax.interop.safetensors_files import open_tensors, read_config, write_folder
from ernie_vilg_jax.models.autoencoder import Autoencoder
from ernie_vilg_jax.models.text_encoder import TextEncoder
from ernie_vilg_jax.models.unet import UNet

CLOSE = {"rtol": 0, "atol": 1e-4}


def shaken(module: Any) -> Any:
    """The module with noise on every parameter, for evaluation."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def channels_last(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy().transpose(0, 2, 3, 1)


def channels_first(array: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(array).transpose(0, 3, 1, 2))


def applied(module: Any, params: Any, *inputs: Any, **how: Any) -> Any:
    return jax.jit(partial(module.apply, **how))({"params": params}, *inputs)


def random_like(shapes: Any) -> Any:
    rng = np.random.default_rng(7)
    return jax.tree.map(lambda leaf: rng.normal(0.1, 0.2, leaf.shape).astype(np.float32), shapes)


def stable_diffusion_vae(**changes: Any) -> Any:
    levels = len(changes["block_out_channels"])
    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }
    return shaken(AutoencoderKL(**blocks, **changes))


VAES: dict[str, dict[str, Any]] = {
    "SD": {"block_out_channels": (32, 64, 64), "layers_per_block": 2},
    "SDXL": {"block_out_channels": (32, 64), "layers_per_block": 1, "scaling_factor": 0.13025},
    "SD3, without quant_conv": {
        **{"block_out_channels": (32, 32), "layers_per_block": 1, "latent_channels": 16, "scaling_factor": 1.5305},
        **{"shift_factor": 0.0609, "use_quant_conv": False, "use_post_quant_conv": False},
    },
    "other norm groups": {"block_out_channels": (8, 12), "layers_per_block": 1, "norm_num_groups": 4},
}


@pytest.mark.parametrize("kind", VAES)
def test_autoencoder_encodes_and_decodes_as_in_diffusers(kind: str, tmp_path: Path) -> None:
    theirs = stable_diffusion_vae(**VAES[kind])
    theirs.save_pretrained(tmp_path)
    fields, ours = autoencoder_kl.read(read_config(tmp_path), open_tensors(tmp_path))
    module: Any = Autoencoder(**fields)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 24, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.encode(channels_first(images)).latent_dist
        decoded = theirs.decode(expected.mean).sample
    posterior = applied(module, ours["params"], images, method="encode")
    np.testing.assert_allclose(posterior.mean, channels_last(expected.mean), **CLOSE)
    np.testing.assert_allclose(posterior.log_variance, channels_last(expected.logvar), **CLOSE)
    images = applied(module, ours["params"], channels_last(expected.mean), method="decode")
    np.testing.assert_allclose(images, channels_last(decoded), **CLOSE)
    # The inputs of their U-Net, and our normalised ones.
    scaled = (expected.mean - (theirs.config.shift_factor or 0.0)) * theirs.config.scaling_factor
    np.testing.assert_allclose((posterior.mean - ours["mean"]) / ours["std"], channels_last(scaled), **CLOSE)


def test_diffusers_loads_an_exported_autoencoder(tmp_path: Path) -> None:
    fields = {"channels": (32, 64), "num_res_blocks": 1, "latent_channels": 4, "patch_size": 1, "norm_groups": 32}
    module: Any = Autoencoder(**fields)
    images = np.random.default_rng(1).uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)
    params = random_like(jax.eval_shape(module.init, jax.random.key(0), images, jax.random.key(0))["params"])
    std = np.full(4, 1 / 0.18215, np.float32)
    exported = autoencoder_kl.write(fields, {"params": params, "mean": np.zeros(4, np.float32), "std": std}, 16)
    write_folder(tmp_path / "vae", *exported)  # type: ignore[arg-type]
    loaded: Any = AutoencoderKL.from_pretrained(tmp_path / "vae", output_loading_info=True)
    theirs, how = loaded
    assert not any(how.values()), how
    assert theirs.config.scaling_factor == 0.18215
    with torch.no_grad():
        expected = theirs.encode(channels_first(images)).latent_dist.mean
    posterior = applied(module, params, images, method="encode")
    np.testing.assert_allclose(posterior.mean, channels_last(expected), **CLOSE)


SMALL: dict[str, Any] = {"vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT_ENCODERS = {
    "BERT": lambda: BertModel(BertConfig(**SMALL, intermediate_size=128)),
    "BERT, other widths": lambda: BertModel(BertConfig(**SMALL, intermediate_size=80, hidden_act="gelu_new")),
    "ERNIE 1": lambda: ErnieModel(ErnieConfig(**SMALL, intermediate_size=128, hidden_act="relu", layer_norm_eps=1e-5)),
    "ERNIE 3": lambda: ErnieModel(ErnieConfig(**SMALL, intermediate_size=128, use_task_id=True)),
}
TOKENS = np.array([[2, 11, 25, 7, 9, 3, 0, 0], [2, 5, 3, 0, 0, 0, 0, 0], [2, 4, 9, 9, 12, 29, 8, 3]])


def read_text(module: Any, params: Any) -> np.ndarray:
    return np.asarray(applied(module, params, jnp.asarray(TOKENS), jnp.asarray(TOKENS > 0)).features)


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("kind", TEXT_ENCODERS)
def test_text_encoder_reads_as_in_transformers(kind: str, scan_layers: bool, tmp_path: Path) -> None:
    theirs = shaken(TEXT_ENCODERS[kind]())
    theirs.save_pretrained(tmp_path)
    fields, params = bert.read(read_config(tmp_path), open_tensors(tmp_path), 30, 8)
    with torch.no_grad():
        given = {"input_ids": torch.tensor(TOKENS), "attention_mask": torch.tensor(TOKENS > 0)}
        expected = theirs(**given).last_hidden_state.numpy()
    module = TextEncoder(**fields, vocab_size=30, max_length=8, scan_layers=scan_layers)
    np.testing.assert_allclose(read_text(module, params), expected, **CLOSE)


def test_transformers_loads_an_exported_text_encoder(tmp_path: Path) -> None:
    fields = {
        **{"width": 32, "num_layers": 2, "num_heads": 4, "norm": "post", "activation": "gelu", "mlp_width": 48},
        "norm_epsilon": 1e-12,
    }
    params = random_like(bert.abstract(fields, 30, 8))
    write_folder(tmp_path / "bert", *bert.write(fields, params, 30, 8, 0), "model.safetensors")  # type: ignore[arg-type]
    loaded: Any = BertModel.from_pretrained(tmp_path / "bert", add_pooling_layer=False, output_loading_info=True)
    theirs, how = loaded
    assert not any(how.values()), how
    with torch.no_grad():
        given = {"input_ids": torch.tensor(TOKENS), "attention_mask": torch.tensor(TOKENS > 0)}
        expected = theirs.eval()(**given).last_hidden_state.numpy()
    module = TextEncoder(**fields, vocab_size=30, max_length=8)
    np.testing.assert_allclose(read_text(module, params), expected, **CLOSE)


OURS: Any = UNet(
    base_channels=32,
    channel_multipliers=(1, 2),
    num_res_blocks=1,
    attention_downsamplings=(2,),
    head_channels=16,
    pooled_text=False,
)
SIZES: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "cross_attention_dim": 24,
}


def fresh_unet(x: np.ndarray, t: np.ndarray, text: np.ndarray) -> Any:
    mask = np.ones(text.shape[:2], bool)
    return random_like(jax.eval_shape(OURS.init, jax.random.key(0), x, t, text, mask, text.mean(1))["params"])


def test_a_unet_of_our_kind_is_taken_whole_and_predicts_the_same(tmp_path: Path) -> None:
    """DeepFloyd IF's blocks: scale and shift by the timestep, one softmax over text and image."""
    theirs = shaken(
        UNet2DConditionModel(
            **SIZES,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            attention_head_dim=16,
            resnet_time_scale_shift="scale_shift",
        )
    )
    theirs.save_pretrained(tmp_path)
    config, tensors = read_config(tmp_path), open_tensors(tmp_path)
    assert unet_2d.differences(config, 16) == []
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 8, 8, 4)).astype(np.float32)
    t, text = np.array([3, 900]), rng.standard_normal((2, 5, 24)).astype(np.float32)
    params, report = warm_start.fit(fresh_unet(x, t, text), unet_2d.names(2), tensors, unet_2d.reason(2, tensors))
    assert report.taken == len(report.rows) and not report.unused, report.table()
    with torch.no_grad():
        expected = theirs(channels_first(x), torch.tensor(t), torch.tensor(text)).sample
    epsilon = applied(OURS, params, x, t, text, np.ones((2, 5), bool), text.mean(1))
    np.testing.assert_allclose(epsilon, channels_last(expected), **CLOSE)


def test_of_stable_diffusions_unet_convolutions_and_norms_are_taken(tmp_path: Path) -> None:
    theirs = UNet2DConditionModel(
        **SIZES,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
    )
    theirs.save_pretrained(tmp_path)
    config, tensors = read_config(tmp_path), open_tensors(tmp_path)
    x, t, text = np.zeros((1, 8, 8, 4), np.float32), np.zeros(1, int), np.zeros((1, 5, 24), np.float32)
    fresh = fresh_unet(x, t, text)
    params, report = warm_start.fit(fresh, unet_2d.names(2), tensors, unet_2d.reason(2, tensors))
    state = theirs.state_dict()
    kernel = params["down_1_res_0"]["conv_in"]["kernel"]
    np.testing.assert_array_equal(kernel, state["down_blocks.1.resnets.0.conv1.weight"].permute(2, 3, 1, 0))
    kernel = params["up_0_res_1"]["conv_out"]["kernel"]
    np.testing.assert_array_equal(kernel, state["up_blocks.1.resnets.1.conv2.weight"].permute(2, 3, 1, 0))
    np.testing.assert_array_equal(params["time_in"]["kernel"], state["time_embedding.linear_1.weight"].T)
    why = {row.path: row.reason for row in report.rows}
    assert "separate attentions for image and text there" in why["mid_attn/qkv/kernel"]
    assert "only added there" in why["down_0_res_0/emb/kernel"]
    assert "a convolution there" in why["down_0_resample/conv_in/kernel"]
    for path, taken in (("mid_attn", False), ("down_0_resample", False), ("mid_res_0/conv_in/kernel", True)):
        assert all((not reason) == taken for name, reason in why.items() if name.startswith(path)), path
    np.testing.assert_array_equal(params["mid_attn"]["qkv"]["kernel"], fresh["mid_attn"]["qkv"]["kernel"])
    assert {"resnet_time_scale_shift='default'", "attention_head_dim=8"} <= set(unet_2d.differences(config, 16))
    assert unet_2d.fields(config)["channel_multipliers"] == (1, 2)
