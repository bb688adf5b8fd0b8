"""AutoencoderKL of diffusers: the autoencoder of Stable Diffusion 1, 2, XL and 3.

config.json is checked field by field: what our autoencoder cannot represent is refused by name.
https://github.com/huggingface/diffusers, models/autoencoders/autoencoder_kl.py
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import layout
from ernie_vilg_jax.interop.safetensors_files import Tensors
from ernie_vilg_jax.models.autoencoder import Autoencoder
from ernie_vilg_jax.models.shapes import shapes_of

CLASS = "AutoencoderKL"
# Allowed values of a field, if it is there; and the fields that are read, or say nothing about the network.
FIXED: dict[str, tuple[Any, ...]] = {
    "_class_name": (CLASS,),
    "in_channels": (3,),
    "out_channels": (3,),
    "act_fn": ("silu", "swish"),
    "mid_block_add_attention": (True,),
}
READ = (
    *("block_out_channels", "layers_per_block", "latent_channels", "norm_num_groups", "down_block_types"),
    *("up_block_types", "scaling_factor", "shift_factor", "latents_mean", "latents_std", "use_quant_conv"),
    *("use_post_quant_conv", "sample_size", "force_upcast"),
)
# Layers of a block, and what stands at the ends.
LAYERS = {
    **{"norm_0/norm": "norm1", "conv_0": "conv1", "norm_1/norm": "norm2", "conv_1": "conv2", "skip": "conv_shortcut"},
    **{"norm/norm": "group_norm", "query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out.0"},
    "norm_out/norm": "conv_norm_out",
}
QUANT = {"encoder/quant": "quant_conv", "decoder/post_quant": "post_quant_conv"}
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def fields(config: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The fields of `config.model.autoencoder` for a network of this config.json.

    Raises UserError naming the field that we cannot represent.
    """
    for field, allowed in FIXED.items():
        if field in config and config[field] not in allowed:
            raise UserError(
                f"{origin}: its config.json has {field}={config[field]!r}, but this autoencoder supports only "
                f"{' or '.join(map(repr, allowed))}"
            )
    channels = tuple(config.get("block_out_channels", (64,)))
    for side, kind in (("down", "DownEncoderBlock2D"), ("up", "UpDecoderBlock2D")):
        types = list(config.get(f"{side}_block_types", [kind]))
        if types != [kind] * len(channels):
            raise UserError(
                f"{origin}: its config.json has {side}_block_types={types}, but this autoencoder supports only {kind}, "
                f"once for each of the {len(channels)} numbers in block_out_channels"
            )
    unknown = sorted(name for name in set(config) - set(FIXED) - set(READ) if not name.startswith("_"))
    if unknown:
        logging.warning("%s: unknown fields of its config.json are ignored: %s", origin, unknown)
    return {
        "channels": channels,
        "num_res_blocks": config.get("layers_per_block", 1),
        "latent_channels": config.get("latent_channels", 4),
        "patch_size": 1,
        "norm_groups": config.get("norm_num_groups", 32),
    }


def statistics(config: Mapping[str, Any], channels: int, origin: str) -> tuple[np.ndarray, np.ndarray]:
    """(mean [c], std [c]) fp32, so that (latents - mean) / std are the latents that their U-Net sees.

    Their formula is (latents - shift_factor) * scaling_factor. With latents_mean and latents_std, one value a channel,
    it is (latents - latents_mean) * scaling_factor / latents_std.
    """
    scale = config.get("scaling_factor", 0.18215)
    mean, std = config.get("latents_mean"), config.get("latents_std")
    try:
        if mean is None or std is None:
            mean, std = np.full(channels, config.get("shift_factor") or 0.0), np.ones(channels)
        mean, std = (np.broadcast_to(np.asarray(value, np.float64).reshape(-1), channels) for value in (mean, std))
        std = std * (1.0 / float(scale))
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{origin}: scaling_factor, shift_factor or latents_mean in config.json: {error}") from error
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise UserError(f"{origin}: scaling_factor and latents_std in its config.json must be positive numbers")
    return mean.astype(np.float32), std.astype(np.float32)


def abstract(sizes: Mapping[str, Any]) -> Params:
    """Shapes of the parameters of an autoencoder with these fields."""
    module = Autoencoder(**sizes)
    key, images = jax.random.key(0), jnp.zeros((1, module.downsampling, module.downsampling, 3))
    return shapes_of(module, images, key)


def names(levels: int) -> layout.Names:
    """Our path -> their name, for an autoencoder with this many levels."""

    def of(path: str) -> tuple[str, ...]:
        module, _ = path.rsplit("/", 1)
        if module in QUANT:
            return (layout.tensor_name(QUANT[module], path),)
        side, block, *layer = module.split("/", 2)
        block_name = layout.block_name(block, levels)
        if block_name is None:  # conv_in, norm_out/norm, conv_out
            end = "/".join((block, *layer))
            return (layout.tensor_name(f"{side}.{LAYERS.get(end, end)}", path),)
        inner = f".{LAYERS[layer[0]]}" if layer else ""
        return (layout.tensor_name(f"{side}.{block_name}{inner}", path),)

    return of


def read(config: Mapping[str, Any], tensors: Tensors) -> tuple[dict[str, Any], Params]:
    """(fields of config.model.autoencoder, {"params", "mean" [c], "std" [c]}) as numpy fp32.

    Raises UserError where config.json or the tensors do not fit our autoencoder.
    """
    sizes = fields(config, tensors.origin)
    mean, std = statistics(config, sizes["latent_channels"], tensors.origin)
    tensors = tensors.renamed(_new_name)
    for side, used in (("quant_conv", "use_quant_conv"), ("post_quant_conv", "use_post_quant_conv")):
        if not config.get(used, True):
            count = sizes["latent_channels"] * (2 if side == "quant_conv" else 1)
            tensors = _with_identity(tensors, side, count)
    try:
        shapes = abstract(sizes)
    except (TypeError, ValueError) as error:
        raise UserError(f"{tensors.origin}: its config.json does not describe an autoencoder: {error}") from error
    params = layout.read_tree(shapes, names(len(sizes["channels"])), tensors, "the autoencoder of its config.json")
    return sizes, {"params": params, "mean": mean, "std": std}


def _new_name(name: str) -> str:
    """Names of the attention before diffusers 0.15 -> those of today."""
    return re.sub(r"(\.attentions\.\d+)\.(query|key|value|proj_attn)\.", lambda m: f"{m[1]}.{OLD_NAMES[m[2]]}.", name)


def _with_identity(tensors: Tensors, module: str, channels: int) -> Tensors:
    """The tensors plus an identity 1 x 1 convolution, for models that were built without one."""
    more = {
        f"{module}.weight": np.eye(channels, dtype=np.float32)[:, :, None, None],
        f"{module}.bias": np.zeros(channels, np.float32),
    }
    shapes = {**tensors.shapes, **{name: array.shape for name, array in more.items()}}
    return Tensors(tensors.origin, shapes, lambda name: more[name] if name in more else tensors.load(name))


def write(
    sizes: Mapping[str, Any], autoencoder: Mapping[str, Any], image_size: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(config.json, tensors) of {"params", "mean" [c], "std" [c]}; the inverse of `read`.

    Raises UserError where AutoencoderKL cannot represent the fields `sizes` of config.model.autoencoder.
    """
    if sizes["patch_size"] != 1:
        raise UserError(
            f"model.autoencoder.patch_size={sizes['patch_size']} has no counterpart in {CLASS}, whose first "
            "convolution sees single pixels: only autoencoders with patch_size=1 can be exported"
        )
    channels = tuple(sizes["channels"])
    groups = {_groups(count, sizes["norm_groups"]) for count in channels}
    if len(groups) > 1:
        raise UserError(
            f"model.autoencoder.channels={channels} are normalised in {' and '.join(map(str, sorted(groups)))} groups, "
            f"but {CLASS} has one norm_num_groups for all"
        )
    config = {
        "_class_name": CLASS,
        "act_fn": "silu",
        "block_out_channels": list(channels),
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "force_upcast": True,
        "in_channels": 3,
        "latent_channels": sizes["latent_channels"],
        "layers_per_block": sizes["num_res_blocks"],
        "norm_num_groups": groups.pop(),
        "out_channels": 3,
        "sample_size": image_size,
        **_their_statistics(*(np.asarray(autoencoder[name], np.float32) for name in ("mean", "std"))),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
    }
    return config, layout.write_tree(autoencoder["params"], names(len(channels)))


def _groups(channels: int, groups: int) -> int:
    """As models/attention.py shrinks them."""
    while channels % groups:
        groups //= 2
    return groups


def _their_statistics(mean: np.ndarray, std: np.ndarray) -> dict[str, Any]:
    """One number if all channels agree, which every reader understands; otherwise one each."""
    if (mean == mean[0]).all() and (std == std[0]).all():
        return {"scaling_factor": _inverse(std[0]), **({"shift_factor": float(mean[0])} if mean[0] else {})}
    return {"scaling_factor": 1.0, "latents_mean": mean.tolist(), "latents_std": std.tolist()}


def _inverse(std: np.float32) -> float:
    """The shortest number x for which fp32 1 / x is `std`: 0.18215 again, not 0.18214999735355377."""
    exact = 1.0 / float(std)
    short = (float(f"{exact:.{digits}g}") for digits in range(1, 17))
    return next((value for value in short if np.float32(1.0 / value) == std), exact)
