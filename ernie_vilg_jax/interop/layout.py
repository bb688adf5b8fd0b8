"""Converts between trees of our parameters and PyTorch tensors, by a function from our path to their names.

    ours                                     theirs
    kernel of a convolution  [h, w, I, O]    weight [O, I, h, w]
    kernel of a dense layer  [I, O]          weight [O, I]
    scale of a norm, bias, embedding         as they are

A path such as "encoder/mid_attn/query/kernel" has one name there, or several that are joined along our last axis
(query, key and value of one fused kernel).
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop.safetensors_files import Tensors

Names = Callable[[str], tuple[str, ...]]
"""Our path -> names of their tensors."""

# Blocks of the autoencoder and the U-Net in diffusers, which counts the levels on the way up from the smallest.
BLOCKS = (
    (r"(down|up)_(\d+)_res_(\d+)", "{0}_blocks.{1}.resnets.{2}"),
    (r"(down|up)_(\d+)_attn_(\d+)", "{0}_blocks.{1}.attentions.{2}"),
    (r"(down|up)_(\d+)_conv", "{0}_blocks.{1}.{0}samplers.0.conv"),
    (r"(down|up)_(\d+)_resample", "{0}_blocks.{1}.{0}samplers.0"),
    (r"(mid)_res_(\d+)", "mid_block.resnets.{1}"),
    (r"(mid)_attn", "mid_block.attentions.0"),
)


def flat(tree: Params) -> dict[str, Any]:
    """{"a/b": leaf} of a nested dict."""
    return flatten_dict(tree, sep="/")


def nested(leaves: dict[str, Any]) -> Params:
    """The inverse of `flat`."""
    return unflatten_dict(leaves, sep="/")


def block_name(block: str, levels: int) -> str | None:
    """ "up_1_res_0" of a model of 3 levels -> "up_blocks.1.resnets.0"; None if it is not a block."""
    for pattern, name in BLOCKS:
        if found := re.fullmatch(pattern, block):
            side, *numbers = found.groups()
            if side == "up":
                numbers[0] = str(levels - 1 - int(numbers[0]))
            return name.format(side, *numbers)
    return None


def tensor_name(module: str, path: str) -> str:
    """Name of the tensor of `module` that our parameter at `path` stands for."""
    return f"{module}.{'bias' if path.endswith('/bias') else 'weight'}"


def their_shape(path: str, shape: tuple[int, ...], count: int = 1) -> tuple[int, ...]:
    """Shape of each of the `count` tensors of theirs that make our array of `shape`."""
    if shape[-1] % count:
        raise ValueError(f"{path}: {shape} cannot be cut into {count}")
    *rest, last = shape
    last //= count
    if path.endswith("/kernel"):
        return (last, rest[-1], *rest[:-1])
    return (*rest, last)


def to_ours(path: str, arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Their arrays, in the order of their names -> ours."""
    if path.endswith("/kernel"):
        arrays = [array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T for array in arrays]
    return np.ascontiguousarray(np.concatenate(list(arrays), axis=-1))


def to_theirs(path: str, array: np.ndarray, count: int = 1) -> list[np.ndarray]:
    """The inverse of `to_ours`."""
    pieces = np.split(np.asarray(array), count, axis=-1)
    if path.endswith("/kernel"):
        pieces = [piece.transpose(3, 2, 0, 1) if piece.ndim == 4 else piece.T for piece in pieces]
    return pieces


def read_tree(abstract: Params, names: Names, tensors: Tensors, what: str) -> Params:
    """Parameters like `abstract` (a tree of shapes), as numpy fp32, each from the tensors of its names.

    Raises UserError unless the tensors are exactly those that the tree needs: none missing, none left over, all shapes
    equal. `what` names the network in messages ("the text encoder of its config.json").
    """
    wanted = {path: (names(path), tuple(leaf.shape)) for path, leaf in flat(abstract).items()}
    needed = {name for theirs, _ in wanted.values() for name in theirs}
    missing, unknown = sorted(needed - set(tensors.shapes)), sorted(set(tensors.shapes) - needed)
    if missing or unknown:
        lacks = [f"lacks {_some(missing)}"] if missing else []
        more = [f"has {_some(unknown)}, which it should not have"] if unknown else []
        raise UserError(f"{tensors.origin} is not {what}: it {' and '.join(lacks + more)}")
    for path, (theirs, shape) in wanted.items():
        for name in theirs:
            expected = their_shape(path, shape, len(theirs))
            if tensors.shapes[name] != expected:
                raise UserError(
                    f"{tensors.origin}: tensor {name} is {list(tensors.shapes[name])}, but should be "
                    f"{list(expected)} in {what}"
                )
    return nested({path: to_ours(path, map(tensors.read, theirs)) for path, (theirs, _) in wanted.items()})


def write_tree(params: Params, names: Names) -> dict[str, np.ndarray]:
    """Their tensors, fp32, by name: what `read_tree` reads back bit for bit."""
    tensors = {}
    for path, leaf in flat(params).items():
        theirs = names(path)
        pieces = to_theirs(path, np.asarray(leaf, np.float32), len(theirs))
        tensors |= dict(zip(theirs, pieces, strict=True))
    return tensors


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest
