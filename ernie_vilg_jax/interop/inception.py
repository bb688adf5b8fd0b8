"""FID's InceptionV3 (models/inception.py) from its published file, pt_inception-2015-12-05-6726825d.pth.

pytorch-fid and torch-fidelity publish the same tensors. torchvision has another network whose tensors have these names:

Conv2d_1a_3x3.conv.weight [32, 3, 3, 3], Conv2d_1a_3x3.bn.{weight, bias, running_mean, running_var} [32], ...
fc.weight [1008, 2048], fc.bias       the classes, which features do not need

https://github.com/mseitzer/pytorch-fid/releases, https://github.com/toshas/torch-fidelity/releases
"""

from pathlib import Path

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import batch_norm, layout
from ernie_vilg_jax.interop.pytorch_files import open_weights
from ernie_vilg_jax.models.inception import SIZE, Inception

FILE = "pt_inception-2015-12-05-6726825d.pth"
CLASSES = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
WHAT = f"FID's InceptionV3 ({FILE} of pytorch-fid, or the same tensors as .safetensors)"


def read_inception(path: str | Path) -> Params:
    """Parameters of `models.inception.Inception` from a .pth or .safetensors file.

    Raises UserError if it is another network, torchvision's InceptionV3 included, or if a tensor is missing.
    """
    tensors = open_weights(path, WHAT)
    if tensors.shapes.get("fc.weight", CLASSES["fc.weight"]) != CLASSES["fc.weight"]:
        raise UserError(
            f"{tensors.origin}: its classifier fc.weight is {list(tensors.shapes['fc.weight'])}, so it is another "
            f"InceptionV3 than FID is defined with, and its distances would not be FIDs: give {WHAT}"
        )
    if missing := [name for name in CLASSES if name not in tensors.shapes]:
        raise UserError(f"{tensors.origin} is not {WHAT}: it lacks {', '.join(missing)}")
    tensors = tensors.only(lambda name: name not in CLASSES and not name.endswith(".num_batches_tracked"))
    kernels = layout.flat(batch_norm.abstract_params(Inception(), SIZE))
    ours = [path.removesuffix("/kernel") for path in kernels if path.endswith("/kernel")]
    theirs = {name: (f"{name}.conv".replace("/", "."), f"{name}.bn".replace("/", ".")) for name in ours}
    return batch_norm.read(Inception(), SIZE, theirs, tensors, WHAT)
