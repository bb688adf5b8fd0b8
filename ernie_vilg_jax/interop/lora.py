"""Adapters (LoRA) in files: an Orbax item for each network, or one .safetensors file with the names of kohya's scripts.

    lora_unet_mid_block_attentions_0_to_q.lora_down.weight   [r, I] or [r, I, h, w]    A
    lora_unet_mid_block_attentions_0_to_q.lora_up.weight     [O, r] or [O, r, 1, 1]    B
    lora_unet_mid_block_attentions_0_to_q.alpha              []                        scale x r

The modules are those of diffusers' nearest network (`unet_2d.py`, `bert.py`); our fused query, key and value are three
of theirs with one and the same A. The U-Net of expert 3 is `lora_unet03_`, as several text encoders are `lora_te1_`,
`lora_te2_` there. `lora_unet_` is the one of a base, and every expert of a bank; `lora_te_` is the text encoder.
https://github.com/kohya-ss/sd-scripts, networks/lora.py
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict
from safetensors import safe_open
from safetensors.numpy import save

from ernie_vilg_jax import checkpointing, hub, paths
from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.interop import bert, layout, unet_2d
from ernie_vilg_jax.interop.safetensors_files import Tensors, open_tensors
from ernie_vilg_jax.model import Model
from ernie_vilg_jax.models import lora
from ernie_vilg_jax.paths import write_atomically

TEXT, UNET = "text_encoder", "unet"
FILE = "lora.safetensors"
"""What `finetune` writes beside its checkpoints, and what a folder of the hub holds."""
ABOUT = "ernie_vilg_jax."
"""Prefix of our own metadata in a .safetensors file."""


@dataclass(frozen=True)
class Lora:
    """Adapters of a model's networks.

    Attributes:
      trees: item of a checkpoint ("expert_00", "text_encoder"), or "unet" for every U-Net -> its adapters, numpy fp32
        (`models.lora`).
      scale: what they are multiplied by.
      base: the fingerprint of the model that they were trained on; "" if it is not known.
    """

    trees: Mapping[str, Params]
    scale: float
    base: str = ""
    about: Mapping[str, str] = field(default_factory=dict)

    def merged(self, item: str, params: Params, scale: float = 1.0) -> Params:
        """The parameters of an item with its adapters, if it has any, times `scale`."""
        own = self.trees.get(item, self.trees.get(UNET) if item.startswith("expert_") else None)
        return params if own is None else lora.merged(params, own, self.scale * scale)


def is_lora(config: ConfigDict) -> bool:
    """Whether a checkpoint of this config holds adapters in place of networks."""
    return bool(config.get("lora", {}).get("rank", 0))


def read(path: epath.PathLike, model: Model) -> Lora:
    """The adapters of a run or checkpoint, or of a .safetensors file, for the networks of `model`.

    A folder that holds `FILE` means that file: a run's best adapters, or a repository hf://OWNER/NAME of them.
    Raises UserError if there are none, or if they are of networks of other sizes.
    """
    given = epath.Path(hub.fetch(str(path), "lora")) if hub.named(path) else paths.reach(path, "lora")
    file = given / FILE if given.is_dir() else given
    if file.suffix == ".safetensors" and file.is_file():
        return _from_file(paths.local(file, "lora"), model)
    if not given.is_dir() and (given.exists() or given.suffix == ".safetensors"):
        wrong = "it is neither a .safetensors file nor a folder" if given.exists() else "there is no such file"
        raise UserError(f"--lora={path}: {wrong}")
    found = checkpointing.find(given, "lora")
    config = checkpointing.read_config(found, default_config())
    if not is_lora(config):
        raise UserError(f"--lora={path} is a whole model, not adapters: load it in place of the other")
    return of_checkpoint(found, config, model)


def of_checkpoint(path: epath.Path, config: ConfigDict, model: Model) -> Lora:
    """The averages of the adapters in a checkpoint whose config says that it has adapters."""
    shapes, settings = network_shapes(model), config.lora
    abstract = {}
    for item in checkpointing.item_names(path):
        if item == TEXT or item.startswith("expert_"):
            targets = settings.text_targets if item == TEXT else settings.targets
            of = shapes[TEXT if item == TEXT else UNET]
            make = partial(lora.init, params=of, targets=targets, rank=settings.rank)
            abstract[item] = {"ema": jax.tree.map(_blank, jax.eval_shape(make, jax.random.key(0)))}
    items, metadata = checkpointing.read_items(path, abstract), checkpointing.read_metadata(path)
    single = {checkpointing.expert_name(0): UNET} if metadata["phase"] == "base" else {}
    trees = {single.get(item, item): tree["ema"] for item, tree in items.items()}
    return Lora(trees, float(settings.alpha or settings.rank) / settings.rank, metadata.get("base", ""))


def _blank(leaf: Any) -> np.ndarray:
    """Tells `read_items` to return numpy arrays."""
    return np.broadcast_to(np.zeros((), np.float32), leaf.shape)


def network_shapes(model: Model) -> dict[str, Params]:
    """Shapes of the parameters of a U-Net and of the text encoder."""
    return {UNET: model.abstract_unet(), TEXT: model.abstract_text_encoder()}


def levels_of(model: Model) -> int:
    return len(model.unet.channel_multipliers)


# ---- .safetensors --------------------------------------------------------------------------------------------------


def write_file(path: Path, adapters: Lora, model: Model) -> int:
    """Writes the adapters as a .safetensors file; returns its size in bytes."""
    tensors: dict[str, np.ndarray] = {}
    rank = 0
    for item, tree in adapters.trees.items():
        names = _names(item, levels_of(model))
        for module, pair in _pairs(tree).items():
            rank = pair["a"].shape[-1]
            for name, down, up in _theirs(names(module), pair["a"], pair["b"]):
                tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = down, up
                tensors[f"{name}.alpha"] = np.asarray(adapters.scale * rank, np.float32)
    metadata = {
        "format": "pt",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(adapters.scale * rank),
        f"{ABOUT}base": adapters.base,
        **{f"{ABOUT}{name}": value for name, value in adapters.about.items()},
    }
    content = save({name: np.array(one, order="C") for name, one in tensors.items()}, metadata=metadata)
    with file_errors(path):
        write_atomically(path, content)
    return len(content)


def _pairs(tree: Params) -> dict[str, dict[str, np.ndarray]]:
    """{"mid_attn/qkv": {"a", "b"}} of a tree of adapters."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for path, leaf in layout.flat(tree).items():
        module, _, side = path.rpartition("/")
        found.setdefault(module.rpartition("/")[0], {})[side] = np.asarray(leaf, np.float32)
    return found


def _names(item: str, levels: int) -> Any:
    """Our module of an item -> names of their modules (of several, the outputs lie one after the other in ours)."""
    if item == TEXT:
        return lambda module: tuple(_flat("lora_te_", name) for name in _text_names(module))
    prefix = "lora_unet_" if item == UNET else f"lora_unet{int(item.removeprefix('expert_')):02d}_"
    of = unet_2d.names(levels)
    return lambda module: tuple(_flat(prefix, name) for name in of(f"{module}/kernel"))


def _text_names(module: str) -> tuple[str, ...]:
    return bert.names(f"{module}/{'embedding' if module == 'tokens' else 'kernel'}")


def _flat(prefix: str, tensor: str) -> str:
    return prefix + tensor.removesuffix(".weight").replace(".", "_")


def _theirs(names: Sequence[str], a: np.ndarray, b: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(name, down, up) of each of their modules that our adapter is of."""
    down = a.transpose(3, 2, 0, 1) if a.ndim == 4 else a.T
    ups = [piece.T for piece in np.split(b, len(names), axis=-1)]
    return [(name, down, up[:, :, None, None] if a.ndim == 4 else up) for name, up in zip(names, ups, strict=True)]


def _from_file(path: Path, model: Model) -> Lora:
    tensors = open_tensors(path)
    with safe_open(path, framework="np") as file:
        about = {name.removeprefix(ABOUT): value for name, value in (file.metadata() or {}).items() if ABOUT in name}
    known = {name.rsplit(".", 2 if name.endswith(".weight") else 1)[0] for name in tensors.shapes}
    if not known:
        raise UserError(f"--lora={path} holds no tensors")
    shapes, trees, used = network_shapes(model), {}, set()
    for item in _items(known):
        names = _names(item, levels_of(model))
        targets = lora.targeted(shapes[TEXT if item == TEXT else UNET], ("",))
        leaves: dict[str, Any] = {}
        for target, leaf in targets.items():
            theirs = names(target.rpartition("/")[0])
            if present := [name for name in theirs if name in known]:
                if len(present) < len(theirs):
                    theirs_missing = sorted(set(theirs) - known)
                    raise UserError(f"--lora={path} lacks {theirs_missing[0]}, which goes with {present[0]}")
                used.update(theirs)
                a, b = _ours(path, tensors, theirs, tuple(leaf.shape))
                leaves |= {f"{target}/a": a, f"{target}/b": b}
        trees[item] = layout.nested(leaves)
    if unknown := sorted(known - used):
        raise UserError(
            f"--lora={path} has adapters of another network: {len(unknown)} of its {len(known)} modules are not in "
            f"this model, such as {unknown[0]}"
        )
    return Lora(trees, 1.0, about.get("base", ""), about)


def _items(known: set[str]) -> list[str]:
    """The items that the modules of a file belong to."""
    found = {
        item
        for item, prefix in ((TEXT, "lora_te_"), (UNET, "lora_unet_"))
        if any(one.startswith(prefix) for one in known)
    }
    found |= {f"expert_{match[1]}" for name in known if (match := re.match(r"lora_unet(\d\d)_", name))}
    return sorted(found)


def _ours(path: Path, tensors: Tensors, names: Sequence[str], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A and B of our array of `shape`, with alpha / r in B; of modules that have different A, one beside the other."""
    downs, ups = [], []
    for name in names:
        try:
            down, up = (tensors.read(f"{name}.lora_{side}.weight") for side in ("down", "up"))
            named = f"{name}.alpha" in tensors.shapes
            alpha = float(tensors.read(f"{name}.alpha").item()) if named else float(len(down))
        except KeyError as error:
            raise UserError(f"--lora={path} lacks a tensor of {name}: get another copy of it") from error
        a = down.transpose(2, 3, 1, 0) if down.ndim == 4 else down.T
        b = up.reshape(up.shape[:2]).T * (alpha / len(down))
        if a.shape[:-1] != shape[:-1] or b.shape[-1] * len(names) != shape[-1] or len(b) != a.shape[-1]:
            theirs = f"{list(down.shape)} and {list(up.shape)}"
            raise UserError(f"--lora={path}: {name} is {theirs}, which does not fit {list(shape)} of this model")
        downs.append(a)
        ups.append(b)
    if all(np.array_equal(downs[0], one) for one in downs[1:]):
        return downs[0], np.concatenate(ups, axis=-1)
    b = np.zeros((sum(len(one) for one in ups), shape[-1]), np.float32)
    row = column = 0
    for one in ups:
        b[row : row + len(one), column : column + one.shape[-1]] = one
        row, column = row + len(one), column + one.shape[-1]
    return np.concatenate(downs, axis=-1), b
