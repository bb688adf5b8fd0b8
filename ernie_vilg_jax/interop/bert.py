"""BertModel and ErnieModel of transformers as our text encoder.

All our tokens are in BERT's segment 0 (and ERNIE's task 0), so these embeddings are added to those of the positions.
Heads above the encoder (pooler, language model) are left out: our pooled vector is the masked mean.
https://github.com/huggingface/transformers, models/bert and models/ernie
"""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import layout
from ernie_vilg_jax.interop.safetensors_files import Tensors
from ernie_vilg_jax.models.shapes import shapes_of
from ernie_vilg_jax.models.text_encoder import TextEncoder

MODEL_TYPES = ("bert", "ernie")
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
}
"""transformers' names -> those of models.text_encoder.ACTIVATIONS."""
FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": MODEL_TYPES,
    "hidden_act": tuple(ACTIVATIONS),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
}
WORDS, POSITIONS = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"
SEGMENTS, TASKS = "embeddings.token_type_embeddings.weight", "embeddings.task_type_embeddings.weight"
TOP = {"tokens": "embeddings.word_embeddings", "norm_embed": "embeddings.LayerNorm"}
SELF = "attention.self"
LAYERS = {
    "qkv": (f"{SELF}.query", f"{SELF}.key", f"{SELF}.value"),
    "out": ("attention.output.dense",),
    "norm_attn": ("attention.output.LayerNorm",),
    "mlp_in": ("intermediate.dense",),
    "mlp_out": ("output.dense",),
    "norm_mlp": ("output.LayerNorm",),
}
HEADS = r"(pooler|cls|lm_head|classifier|qa_outputs)\b|embeddings\.(position_ids|token_type_ids)$"
"""Tensors that say nothing about the encoder."""


def fields(config: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The fields of `config.model.text_encoder` for a network of this config.json.

    Raises UserError naming the field that we cannot represent.
    """
    if "model_type" not in config:
        raise UserError(f"{origin}: its config.json has no model_type: this is not the config of a text encoder")
    for field, allowed in FIXED.items():
        if field in config and config[field] not in allowed:
            raise UserError(
                f"{origin}: its config.json has {field}={config[field]!r}, but this text encoder supports only "
                f"{' or '.join(map(repr, allowed))}"
            )
    width, mlp_width = config.get("hidden_size", 768), config.get("intermediate_size", 3072)
    return {
        "width": width,
        "num_layers": config.get("num_hidden_layers", 12),
        "num_heads": config.get("num_attention_heads", 12),
        "norm": "post",
        "activation": ACTIVATIONS[config.get("hidden_act", "gelu")],
        "mlp_width": 0 if mlp_width == 4 * width else mlp_width,
        "norm_epsilon": float(config.get("layer_norm_eps", 1e-12)),
    }


def names(path: str) -> tuple[str, ...]:
    """Our path -> their names, without the prefix of the model."""
    if path == "positions":
        return (POSITIONS,)
    module = path.rsplit("/", 1)[0]
    if module in TOP:
        return (layout.tensor_name(TOP[module], path),)
    number, layer = re.fullmatch(r"layer_(\d+)/(\w+)", module).groups()  # type: ignore[union-attr]
    return tuple(layout.tensor_name(f"encoder.layer.{int(number)}.{name}", path) for name in LAYERS[layer])


def abstract(sizes: Mapping[str, Any], vocab_size: int, max_length: int) -> Params:
    """Shapes of the parameters of a text encoder with these fields."""
    module = TextEncoder(**sizes, vocab_size=vocab_size, max_length=max_length)
    tokens = jnp.zeros((1, max_length), jnp.int32)
    return shapes_of(module, tokens, tokens == 0)


def read(
    config: Mapping[str, Any], tensors: Tensors, vocab_size: int, max_length: int
) -> tuple[dict[str, Any], Params]:
    """(fields of config.model.text_encoder, its parameters) as numpy fp32.

    Args:
      vocab_size: of its tokenizer; further rows of the embedding are left out.
      max_length: tokens of a prompt; further positions are left out.

    Raises UserError where config.json or the tensors do not fit our text encoder.
    """
    sizes = fields(config, tensors.origin)
    tensors = _encoder(tensors.renamed(_new_name))
    for field, name, wanted in (
        ("vocabulary", WORDS, vocab_size),
        ("--max_length", POSITIONS, max_length),
    ):
        rows = tensors.shapes.get(name, (wanted,))[0]
        if rows < wanted:
            raise UserError(f"{tensors.origin}: {name} has {rows} rows, too few for a {field} of {wanted}")
    tensors = _folded(tensors, bool(config.get("use_task_id")), vocab_size, max_length)
    try:
        shapes = abstract(sizes, vocab_size, max_length)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{tensors.origin}: its config.json does not describe a text encoder: {error}") from error
    return sizes, layout.read_tree(shapes, names, tensors, "the text encoder of its config.json")


def _new_name(name: str) -> str:
    """Drops the model's prefix, and renames gamma and beta (TensorFlow) to weight and bias."""
    name = re.sub(r"^(bert|ernie)\.", "", name)
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda m: f"LayerNorm.{'weight' if m[1] == 'gamma' else 'bias'}", name)


def _encoder(tensors: Tensors) -> Tensors:
    unused = [name for name in tensors.shapes if re.match(HEADS, name)]
    if unused:
        logging.info("not used, because they are not part of the encoder: %s", ", ".join(unused))
    return tensors._replace(shapes={name: shape for name, shape in tensors.shapes.items() if name not in unused})


def _folded(tensors: Tensors, tasks: bool, vocab_size: int, max_length: int) -> Tensors:
    """Tables of words and positions in our form, with segments and tasks added to the positions."""
    added = (SEGMENTS, TASKS) if tasks else (SEGMENTS,)
    missing = [name for name in added if name not in tensors.shapes]
    if missing:
        raise UserError(f"{tensors.origin} is not the text encoder of its config.json: it lacks {', '.join(missing)}")

    def load(name: str) -> np.ndarray:
        if name == WORDS:
            return tensors.load(name)[:vocab_size]
        if name != POSITIONS:
            return tensors.load(name)
        positions = tensors.read(name)[:max_length]
        for table in added:
            row = tensors.read(table)[0]
            positions = positions + row if row.any() else positions
        return positions

    cut = {WORDS: vocab_size, POSITIONS: max_length}
    shapes = {name: (cut.get(name, shape[0]), *shape[1:]) for name, shape in tensors.shapes.items()}
    return Tensors(tensors.origin, {name: shape for name, shape in shapes.items() if name not in added}, load)


def write(
    sizes: Mapping[str, Any], params: Params, vocab_size: int, max_length: int, pad_id: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(config.json, tensors) of a BertModel without pooler; the inverse of `read`.

    Raises UserError where BertModel cannot represent the fields `sizes` of config.model.text_encoder.
    """
    if sizes["norm"] != "post":
        raise UserError(
            f"model.text_encoder.norm={sizes['norm']!r} has no counterpart in BertModel, which normalises after each "
            "sum: only text encoders with norm='post' can be exported"
        )
    activations = [theirs for theirs, ours in ACTIVATIONS.items() if ours == sizes["activation"]]
    if not activations:
        raise UserError(f"model.text_encoder.activation={sizes['activation']!r} has no counterpart in BertModel")
    width = sizes["width"]
    config = {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.0,
        "hidden_act": activations[-1],
        "hidden_dropout_prob": 0.0,
        "hidden_size": width,
        "intermediate_size": sizes["mlp_width"] or 4 * width,
        "layer_norm_eps": sizes["norm_epsilon"],
        "max_position_embeddings": max_length,
        "model_type": "bert",
        "num_attention_heads": sizes["num_heads"],
        "num_hidden_layers": sizes["num_layers"],
        "pad_token_id": pad_id,
        "type_vocab_size": 2,
        "vocab_size": vocab_size,
    }
    return config, {**layout.write_tree(params, names), SEGMENTS: np.zeros((2, width), np.float32)}
