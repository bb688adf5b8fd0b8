"""Loads a checkpoint as a Pipeline, and exports a run to a checkpoint with only the arrays that sampling needs."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing, checks, checksums, compilation_cache, paths
from ernie_vilg_jax.checkpointing import expert_name
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import components
from ernie_vilg_jax.interop import lora as lora_files
from ernie_vilg_jax.interop.lora import Lora
from ernie_vilg_jax.model import Model, ModelParams, Params, build_model
from ernie_vilg_jax.pipeline.pipeline import Pipeline
from ernie_vilg_jax.sampling.modes import check_mode
from ernie_vilg_jax.sampling.pipelined import stack_experts
from ernie_vilg_jax.sampling.turns import working
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.sharding.mesh import AXES, make_mesh
from ernie_vilg_jax.tables import ASSETS

DEMO = ASSETS / "demo"
log = logging.getLogger(__name__)


class Adapted(NamedTuple):
    """A checkpoint of whole networks, and adapters that are added to them."""

    path: epath.Path
    config: ConfigDict
    lora: Lora | None = None
    scale: float = 1.0

    def merged(self, item: str, params: Params) -> Params:
        return params if self.lora is None else self.lora.merged(item, params, self.scale)


def load(
    path: epath.PathLike | None = None,
    *,
    mode: str = "resident",
    mesh: Mapping[str, int] | None = None,
    lora: epath.PathLike | None = None,
    scale: float = 1.0,
) -> Pipeline:
    """The pipeline of a checkpoint or of a training run (its newest checkpoint); the demo's without a path.

    Args:
      path: a folder, a URL of a bucket, or hf://OWNER/NAME[@REVISION] on the Hugging Face hub.
      mode: where the experts are while sampling: "resident", "streamed" or "pipelined" (docs/sampling.md).
      mesh: sizes of mesh axes, such as {"expert": 4}; `data` takes the remaining devices. None is one device.
      lora: adapters that are added to the model: a run of fine-tuning, a checkpoint of it, a .safetensors file, or
        hf://OWNER/NAME, which holds either.
      scale: how much of the adapters is added; 0 is the model without them, 1 is as they were trained.

    A run that trained adapters loads with the model that they were trained on. Compiled programs are kept on disk
    (`compilation_cache`).

    Raises UserError if there is no checkpoint, if it is damaged or of another version, if the adapters are of another
    model, or if the mode does not fit the mesh.
    """
    if path is None and not DEMO.is_dir():
        raise UserError(f"checkpoint: the demo's is missing from {DEMO}; name another")
    try:
        found = resolve(DEMO if path is None else path, lora, scale)
    except UserError as error:
        raise UserError(re.sub("--(?=(checkpoint|lora)[=:])", "", str(error))) from error
    config, model = found.config, build_model(found.config)
    stages, names = _experts(found.path, model)
    compilation_cache.enable()
    devices = None if mesh is None else _mesh(mesh)
    check_mode(mode, stages.n, devices)
    params = _read_params(found, model, names, jnp.dtype(config.dtype), mode, devices)
    tokenizer = checkpointing.read_tokenizer(found.path)
    return Pipeline(config, model, stages, params, tokenizer, mode=mode, mesh=devices, weights=fingerprint(found)[:12])


def fingerprint(found: Adapted) -> str:
    """Of all parameters; the beginning of it is inside the images."""
    content: Any = checkpointing.read_metadata(found.path)
    if found.lora is not None:
        content = [content, checksums.of_items(found.lora.trees), found.lora.scale * found.scale]
    return digest(content)


def resolve(path: epath.PathLike, adapters: epath.PathLike | None = None, scale: float = 1.0) -> Adapted:
    """The checkpoint of `path` with `adapters`; if it is itself of adapters, the model that they were trained on.

    Raises UserError, naming --checkpoint, --lora or `scale`, if there is no such model.
    """
    checks.number(f"scale={scale}", scale)
    found = checkpointing.find(path)
    config = checkpointing.read_config(found, default_config())
    if lora_files.is_lora(config):
        if adapters is not None:
            raise UserError(
                f"--checkpoint={path} has adapters itself: give the model that both are for, and one of them as lora; "
                "or merge the first with `checkpoint export`"
            )
        given = config.phases[config.phase].init_from
        try:
            base = resolve(given)
        except UserError as error:
            raise UserError(
                f"{found} has adapters of the model {given}, which cannot be loaded ({error}); name it where it is "
                "now, and these with lora"
            ) from error
        own = lora_files.of_checkpoint(found, config, build_model(base.config))
        return _with_adapters(base, own, scale, f"--checkpoint={path}")
    base = Adapted(found, config)
    if adapters is not None:
        return _with_adapters(base, lora_files.read(adapters, build_model(config)), scale, f"--lora={adapters}")
    if scale != 1:
        raise UserError(f"scale={scale} is of adapters, and there are none: name some with lora")
    return base


def _with_adapters(base: Adapted, adapters: Lora, scale: float, said: str) -> Adapted:
    if missing := sorted(set(adapters.trees) - {lora_files.UNET} - set(checkpointing.item_names(base.path))):
        raise UserError(f"{said} has adapters of {', '.join(missing)}, which {base.path} does not have")
    if adapters.base and adapters.base != digest(checkpointing.read_metadata(base.path)):
        log.warning("the adapters were trained on another checkpoint than %s: they may do less, or harm", base.path)
    return base._replace(lora=adapters, scale=scale)


def _experts(found: epath.Path, model: Model) -> tuple[Stages, list[str]]:
    """The stages of a checkpoint, and the item that holds the expert of each."""
    # The phase `base` has one U-Net in charge of all timesteps.
    single = checkpointing.read_metadata(found)["phase"] == "base"
    stages = Stages((), model.schedule.num_timesteps) if single else model.stages
    names = [expert_name(stage) for stage in range(stages.n)]
    if missing := set(names) - set(checkpointing.item_names(found)):
        raise UserError(
            f"checkpoint {found} has no {', '.join(sorted(missing))}: sampling needs the expert of every stage"
        )
    return stages, names


def _mesh(sizes: Mapping[str, int]) -> Mesh:
    unknown = set(sizes) - set(AXES)
    if unknown:
        raise UserError(f"mesh: it has no axis {', '.join(sorted(unknown))}; its axes are {', '.join(AXES)}")
    try:
        return make_mesh(sizes if -1 in sizes.values() else {"data": -1, **sizes})
    except UserError as error:
        # Not the config's mesh, which is that of training.
        raise UserError(str(error).replace("--config.mesh", "mesh:")) from error


def _read_params(
    found: Adapted, model: Model, names: Sequence[str], dtype: jnp.dtype, mode: str, mesh: Mesh | None
) -> ModelParams:
    """The parameters as `mode` takes them: on the devices, as functions that read them, or as a bank."""
    shapes = _shapes(model, names, dtype)

    def read(name: str, place: Callable[[Any], Any]) -> Params:
        tree = checkpointing.read_items(found.path, {name: place(shapes[name])})[name]
        return found.merged(name, tree.get("ema", tree))

    # Straight to the devices that use it: neither host memory nor another device needs to hold it first.
    at_work = lambda tree: rules.placed(tree, working(tree, mesh))  # noqa: E731
    if mode == "streamed":
        # With a mesh, the experts stay in its memory, sharded; otherwise they are read from disk at each call.
        if mesh is not None and mesh.shape["fsdp"] > 1:
            source: Any = partial(read, place=lambda tree: rules.placed(tree, rules.shardings(tree, mesh)))
        else:
            source = lambda name: partial(read, name, at_work)  # noqa: E731
        return ModelParams(source("autoencoder"), source("text_encoder"), tuple(source(name) for name in names))
    if mode == "pipelined":
        assert mesh is not None
        # As numpy: a device only has room for its own experts.
        experts: Any = stack_experts([partial(read, name, _in_numpy) for name in names], mesh)
    else:
        experts = tuple(read(name, at_work) for name in names)
    return ModelParams(read("autoencoder", at_work), read("text_encoder", at_work), experts)


def _shapes(model: Model, names: Sequence[str], dtype: Any) -> dict[str, Any]:
    """The items that sampling reads from a checkpoint: abstract, all but the autoencoder in `dtype`."""
    averages = lambda tree: {"ema": jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), tree)}  # noqa: E731
    unet, text_encoder = averages(model.abstract_unet()), averages(model.abstract_text_encoder())
    return {"autoencoder": model.abstract_autoencoder(), "text_encoder": text_encoder, **dict.fromkeys(names, unet)}


def _in_numpy(tree: Any) -> Any:
    """Tells `read_items` to return numpy arrays."""
    return jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), tree)


def _rounded(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree)


def export(
    path: str | Path, output: str | Path, *, prompts: Sequence[str] | None = None, overwrite: bool = False
) -> int:
    """Writes the part of a checkpoint or run that sampling needs to `output`, in bf16; returns its size in bytes.

    All of it must fit in host memory; devices are not used. Adapters are merged into their model.
    `prompts` are the examples that `sample` uses without `--prompt`.
    """
    target = components.free(output, path, overwrite)
    found = resolve(path)
    metadata = checkpointing.read_metadata(found.path)
    # Paths of the training machine mean nothing elsewhere.
    metadata["config"]["data"]["path"] = metadata["config"]["tokenizer"]["path"] = ""
    for section in metadata["config"]["phases"].values():
        section |= {field: "" for field in section if field.endswith(("init_from", "_from"))}
    if prompts:
        metadata["config"]["train"]["preview_prompts"] = list(prompts)
    model = build_model(found.config)
    # Adapters are added before anything is rounded.
    shapes = _shapes(model, _experts(found.path, model)[1], jnp.bfloat16 if found.lora is None else jnp.float32)
    half = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16)  # noqa: E731
    shapes["autoencoder"]["params"] = jax.tree.map(half, shapes["autoencoder"]["params"])
    items = checkpointing.read_items(found.path, _in_numpy(shapes))
    if found.lora is not None:
        networks = {name: tree["ema"] for name, tree in items.items() if name != "autoencoder"}
        items |= {name: {"ema": _rounded(found.merged(name, tree))} for name, tree in networks.items()}
        metadata["lora"] = {"base": found.lora.base, "scale": found.scale}
    items["tokenizer"] = checkpointing.pack_tokenizer(checkpointing.read_tokenizer(found.path))
    with paths.replacing(target) as fresh:
        checkpointing.save_once(fresh, items, metadata)
    return sum((folder / file).stat().length for folder, _, files in target.walk() for file in files)
