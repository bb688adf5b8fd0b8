"""What the paper's U-Net can take over from a UNet2DConditionModel of diffusers.

Ours is ADM's U-Net with one joint attention over text and image. A U-Net with the blocks of DeepFloyd IF
("SimpleCrossAttn…" and "ResnetDownsample…", resnet_time_scale_shift="scale_shift") is the same network, and all of it
fits. Stable Diffusion's has the same convolutions and norms. It differs in three things, and those start fresh:

    attention   a transformer block with separate attentions for image and text
    timestep    only added to the features; ours scales and shifts them
    resampling  a convolution; ours is a residual block

https://github.com/huggingface/diffusers, models/unets/unet_2d_condition.py
"""

from collections.abc import Callable, Mapping
from typing import Any

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import layout
from ernie_vilg_jax.interop.safetensors_files import Tensors

CLASS = "UNet2DConditionModel"
TOP = {
    "time_in": "time_embedding.linear_1",
    "time_out": "time_embedding.linear_2",
    "conv_in": "conv_in",
    "norm_out/norm": "conv_norm_out",
    "conv_out": "conv_out",
}
RESNET = {
    "norm_in/norm": ("norm1",),
    "conv_in": ("conv1",),
    "emb": ("time_emb_proj",),
    "norm_out/norm": ("norm2",),
    "conv_out": ("conv2",),
    "skip": ("conv_shortcut",),
}
ATTENTION = {
    "norm/norm": ("group_norm",),
    "qkv": ("to_q", "to_k", "to_v"),
    "text_kv": ("add_k_proj", "add_v_proj"),
    "out": ("to_out.0",),
}
# How our U-Net computes, where config.json has a field for it. With other values, what fits is still taken.
AS_OURS: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "norm_num_groups": (32,),
    "norm_eps": (1e-5,),
    "resnet_time_scale_shift": ("scale_shift",),
    "resnet_skip_time_act": (False,),
    "resnet_out_scale_factor": (1, 1.0),
    "mid_block_scale_factor": (1, 1.0),
    "only_cross_attention": (False,),
    "cross_attention_norm": (None,),
    "encoder_hid_dim": (None,),
    "class_embed_type": (None,),
    "addition_embed_type": (None,),
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
}


def check_class(config: Mapping[str, Any], origin: str) -> None:
    """Raises UserError unless config.json describes a UNet2DConditionModel."""
    if config.get("_class_name", CLASS) != CLASS or "block_out_channels" not in config:
        kind = config.get("_class_name", config.get("model_type"))
        raise UserError(f"{origin}: its config.json describes {kind}, but the U-Net to start from must be a {CLASS}")


def names(levels: int) -> layout.Names:
    """Our path -> their names, for a U-Net with this many levels; () if they have no such tensor."""

    def of(path: str) -> tuple[str, ...]:
        module = path.rsplit("/", 1)[0]
        if module in TOP:
            return (layout.tensor_name(TOP[module], path),)
        block, _, layer = module.partition("/")
        theirs = layout.block_name(block, levels)
        if theirs is None:
            return ()
        layers = ATTENTION if "attn" in block else RESNET
        return tuple(layout.tensor_name(f"{theirs}.{name}", path) for name in layers[layer])

    return of


def reason(levels: int, tensors: Tensors) -> Callable[[str, tuple[int, ...]], str]:
    """(our path, its shape) -> why their counterpart cannot be used; "" if names and shapes say it all."""

    def of(path: str, shape: tuple[int, ...]) -> str:
        block, _, layer = path.partition("/")
        theirs = layout.block_name(block, levels)
        has = lambda part: any(name.startswith(f"{theirs}.{part}.") for name in tensors.shapes)  # noqa: E731
        if "attn" in block and has("transformer_blocks"):
            return "separate attentions for image and text there, a joint one here"
        if "resample" in block and has("conv"):
            return "a convolution there, a residual block here"
        if layer.startswith("emb/") and tensors.shapes.get(f"{theirs}.time_emb_proj.bias") == (shape[-1] // 2,):
            return "the timestep is only added there; it scales and shifts here"
        return ""

    return of


def differences(config: Mapping[str, Any], head_channels: int) -> list[str]:
    """Where their network computes differently from ours, as "field=value"."""
    known = {**AS_OURS, "attention_head_dim": (head_channels, [head_channels] * len(config["block_out_channels"]))}
    return [f"{name}={config[name]!r}" for name, same in known.items() if name in config and config[name] not in same]


def fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `config.model.unet` that give our U-Net the sizes of theirs, as far as possible."""
    channels = list(config["block_out_channels"])
    blocks = list(config.get("down_block_types", []))
    found = {
        "base_channels": channels[0],
        "num_res_blocks": config.get("layers_per_block", 2),
        "attention_downsamplings": tuple(2**level for level, kind in enumerate(blocks) if "Attn" in kind),
    }
    if all(count % channels[0] == 0 for count in channels):
        found["channel_multipliers"] = tuple(count // channels[0] for count in channels)
    return found
