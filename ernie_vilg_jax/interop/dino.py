"""DINOv2 (models/vision_transformer.py) from a folder of transformers: Dinov2Model.

Its positions are those of one image size, and are interpolated to another when they are read, as transformers does it.
The mask token is left out. https://github.com/huggingface/transformers, models/dinov2
"""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import layout
from ernie_vilg_jax.interop.hub_config import activation, parsed_config, to_module
from ernie_vilg_jax.interop.pytorch_files import open_weights
from ernie_vilg_jax.interop.safetensors_files import Tensors
from ernie_vilg_jax.models.shapes import shapes_of
from ernie_vilg_jax.models.vision_transformer import VisionTransformer

WHAT = "the folder that save_pretrained of Dinov2Model wrote"
FIRST, POSITIONS = "embeddings.cls_token", "embeddings.position_embeddings"
UNUSED = ("embeddings.mask_token", "classifier.weight", "classifier.bias")
TOP = {"patches": "embeddings.patch_embeddings.projection", "norm_out": "layernorm"}
ATTENTION = "attention.attention"
LAYERS = {
    "qkv": (f"{ATTENTION}.query", f"{ATTENTION}.key", f"{ATTENTION}.value"),
    "out": ("attention.output.dense",),
    "norm_attn": ("norm1",),
    "norm_mlp": ("norm2",),
}
MLP = {"mlp_in": "mlp.fc1", "mlp_out": "mlp.fc2"}
GATED_MLP = {"mlp_in": "mlp.weights_in", "mlp_out": "mlp.weights_out"}
SCALES = {"scale_attn": "layer_scale1.lambda1", "scale_mlp": "layer_scale2.lambda1"}


def read_dino(folder: str | Path, size: int) -> tuple[VisionTransformer, Params]:
    """The network of a folder and its parameters, as numpy fp32, for images of `size` x `size` pixels.

    Raises UserError if the folder holds another network, if config.json and the tensors do not agree, or if `size` is
    not a multiple of the patch size.
    """
    config = parsed_config(folder, ("dinov2",), WHAT)
    tensors = open_weights(folder, WHAT)
    tensors = tensors.renamed(lambda name: name.removeprefix("dinov2."))
    tensors = tensors.only(lambda name: name not in UNUSED)
    if not config.qkv_bias:
        raise UserError(f"{tensors.origin}: its config.json has qkv_bias=false, and only true is supported")
    if not isinstance(config.image_size, int) or not isinstance(config.patch_size, int):
        raise UserError(f"{tensors.origin}: its config.json has sizes of images or patches that are not whole numbers")
    if size < config.patch_size or size % config.patch_size:
        raise UserError(f"size={size} must be a multiple of {config.patch_size}, the patch size of {tensors.origin}")
    width, gated = config.hidden_size, config.use_swiglu_ffn
    mlp_width = int(width * config.mlp_ratio)
    vision = VisionTransformer(
        patch_size=config.patch_size,
        width=width,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        mlp_width=2 * ((int(mlp_width * 2 / 3) + 7) // 8 * 8) if gated else mlp_width,
        activation="swiglu" if gated else activation(config.hidden_act, tensors.origin),
        norm_epsilon=config.layer_norm_eps,
        layer_scale=True,
    )
    pixels = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    wanted = to_module(lambda: shapes_of(vision, pixels), tensors.origin)
    mlp = GATED_MLP if gated else MLP

    def names(path: str) -> tuple[str, ...]:
        if path in ("first", "positions"):
            return (FIRST if path == "first" else POSITIONS,)
        module = path.rsplit("/", 1)[0]
        if module in TOP:
            return (layout.tensor_name(TOP[module], path),)
        number, layer = re.fullmatch(r"layer_(\d+)/(\w+)(?:/\w+)?", path).groups()  # type: ignore[union-attr]
        prefix = f"encoder.layer.{int(number)}"
        if layer in SCALES:
            return (f"{prefix}.{SCALES[layer]}",)
        theirs = LAYERS[layer] if layer in LAYERS else (mlp[layer],)
        return tuple(layout.tensor_name(f"{prefix}.{name}", path) for name in theirs)

    tensors = _flattened(tensors, config.image_size // config.patch_size, size // config.patch_size)
    return vision, layout.read_tree(wanted, names, tensors, "the DINOv2 of its config.json")


def _flattened(tensors: Tensors, before: int, after: int) -> Tensors:
    """Class vector [width] and positions [1 + after**2, width] of [1, 1, width] and [1, 1 + before**2, width]."""
    shapes = dict(tensors.shapes)
    if FIRST in shapes and shapes[FIRST][:2] == (1, 1):
        shapes[FIRST] = shapes[FIRST][2:]
    if POSITIONS in shapes and shapes[POSITIONS][:2] == (1, 1 + before**2):
        shapes[POSITIONS] = (1 + after**2, *shapes[POSITIONS][2:])

    def load(name: str) -> np.ndarray:
        array = tensors.load(name)
        if name == POSITIONS:
            return interpolated(np.asarray(array[0], np.float32), after)
        return array.reshape(shapes[name])

    return tensors._replace(shapes=shapes, load=load)


def interpolated(positions: np.ndarray, side: int) -> np.ndarray:
    """Positions [1 + n * n, width] of n x n patches -> [1 + side * side, width]; the first stays as it is.

    Bicubic as torch.nn.functional.interpolate without antialiasing computes it: Keys' kernel with a = -0.75, and places
    beyond the border repeat it.
    """
    first, grid = positions[:1], positions[1:]
    before = round(len(grid) ** 0.5)
    if before == side:
        return positions
    places = (np.arange(side) + 0.5) * before / side - 0.5
    start = np.floor(places).astype(int)
    weights = np.zeros((side, before))
    for offset in range(-1, 3):
        distance = np.abs(places - (start + offset))
        near = 1.25 * distance**3 - 2.25 * distance**2 + 1
        far = -0.75 * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        column = np.clip(start + offset, 0, before - 1)
        np.add.at(weights, (np.arange(side), column), np.where(distance <= 1, near, far))
    square = grid.reshape(before, before, -1)
    grid = np.einsum("ia,jb,abc->ijc", weights, weights, square, optimize=True).reshape(side * side, -1)
    return np.concatenate([first, grid.astype(np.float32)])
