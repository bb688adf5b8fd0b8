"""CLIP (models/clip.py) from a folder of transformers: CLIPModel (OpenAI, OpenCLIP converted) and ChineseCLIPModel.

The text encoder of ChineseCLIPModel is a BERT (interop/bert.py). The learnt temperature is left out.
https://github.com/huggingface/transformers, models/clip and models/chinese_clip
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.interop import bert, layout
from ernie_vilg_jax.interop.hub_config import activation, parsed_config, to_module
from ernie_vilg_jax.interop.pytorch_files import open_weights
from ernie_vilg_jax.interop.safetensors_files import Tensors
from ernie_vilg_jax.models.clip import Clip
from ernie_vilg_jax.models.shapes import shapes_of
from ernie_vilg_jax.models.text_encoder import TextEncoder
from ernie_vilg_jax.models.vision_transformer import VisionTransformer

MODEL_TYPES = ("clip", "chinese_clip")
WHAT = "the folder that save_pretrained of CLIPModel or ChineseCLIPModel wrote"
UNUSED = r"logit_scale$|.*\.position_ids$|text_model\.pooler\."
VISION = {
    "patches": "vision_model.embeddings.patch_embedding",
    "norm_in": "vision_model.pre_layrnorm",  # spelt so
    "norm_out": "vision_model.post_layernorm",
}
TEXT = {"tokens": "text_model.embeddings.token_embedding", "norm_out": "text_model.final_layer_norm"}
LAYERS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.out_proj",),
    "norm_attn": ("layer_norm1",),
    "mlp_in": ("mlp.fc1",),
    "mlp_out": ("mlp.fc2",),
    "norm_mlp": ("layer_norm2",),
}


def read_clip(folder: str | Path) -> tuple[Clip, Params]:
    """The network of a folder and its parameters, as numpy fp32.

    Raises UserError if the folder holds another network, or if config.json and the tensors do not agree.
    """
    config = parsed_config(folder, MODEL_TYPES, WHAT)
    tensors = open_weights(folder, WHAT)
    tensors = tensors.only(lambda name: not re.match(UNUSED, name))
    vision, text, dim = config.vision_config, config.text_config, config.projection_dim
    image_tower = VisionTransformer(
        patch_size=vision.patch_size,
        width=vision.hidden_size,
        num_layers=vision.num_hidden_layers,
        num_heads=vision.num_attention_heads,
        mlp_width=vision.intermediate_size,
        activation=activation(vision.hidden_act, tensors.origin),
        norm_epsilon=vision.layer_norm_eps,
        norm_in=True,
        patch_bias=False,
    )
    is_bert = config.model_type == "chinese_clip"
    text_params = None
    if is_bert:
        fields, text_params = _bert(text.to_dict(), tensors)
        tensors = tensors.only(lambda name: not name.startswith("text_model."))
    else:
        fields = {
            "width": text.hidden_size,
            "num_layers": text.num_hidden_layers,
            "num_heads": text.num_attention_heads,
            "mlp_width": text.intermediate_size,
            "activation": activation(text.hidden_act, tensors.origin),
            "norm_epsilon": text.layer_norm_eps,
            "causal": True,
        }
    sizes = {"vocab_size": text.vocab_size, "max_length": text.max_position_embeddings}
    clip = Clip(image_tower, TextEncoder(**fields, **sizes), dim, token="first" if is_bert else "last")
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    pixels = jax.ShapeDtypeStruct((1, vision.image_size, vision.image_size, 3), jnp.float32)
    wanted = to_module(lambda: shapes_of(clip, pixels, tokens, method=_both), tensors.origin)
    if is_bert:
        del wanted["text"]
    params = layout.read_tree(wanted, names, tensors, "the CLIP of its config.json")
    return clip, params | ({"text": text_params} if is_bert else {})


def _both(clip: Clip, pixels: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    return clip.images(pixels), clip.texts(tokens, tokens == 0)


def _bert(config: Mapping[str, Any], tensors: Tensors) -> tuple[dict[str, Any], Params]:
    prefix = "text_model."
    inner = tensors.only(lambda name: name.startswith(prefix)).renamed(lambda name: name.removeprefix(prefix))
    inner = inner._replace(origin=f"{tensors.origin} ({prefix}*)")
    words = {"vocab_size": config["vocab_size"], "max_length": config["max_position_embeddings"]}
    return bert.read({**config, "model_type": "bert"}, inner, **words)


def names(path: str) -> tuple[str, ...]:
    """Our path -> their names."""
    tower, _, rest = path.partition("/")
    if tower == "image_projection":
        return ("visual_projection.weight",)
    if tower == "text_projection":
        return ("text_projection.weight",)
    their_tower = "vision_model" if tower == "vision" else "text_model"
    if rest == "first":
        return (f"{their_tower}.embeddings.class_embedding",)
    if rest == "positions":
        return (f"{their_tower}.embeddings.position_embedding.weight",)
    module = rest.rsplit("/", 1)[0]
    top = VISION if tower == "vision" else TEXT
    if module in top:
        return (layout.tensor_name(top[module], rest),)
    number, layer = re.fullmatch(r"layer_(\d+)/(\w+)", module).groups()  # type: ignore[union-attr]
    return tuple(
        layout.tensor_name(f"{their_tower}.encoder.layers.{int(number)}.{name}", rest) for name in LAYERS[layer]
    )
