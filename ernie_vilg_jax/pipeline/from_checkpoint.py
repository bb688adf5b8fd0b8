"""Loads a checkpoint as a Pipeline, and exports a run to a checkpoint with only the arrays that sampling needs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh

from ernie_vilg_jax import checkpointing, compilation_cache, paths
from ernie_vilg_jax.checkpointing import expert_name
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import components
from ernie_vilg_jax.model import Model, ModelParams, Params, build_model
from ernie_vilg_jax.pipeline.pipeline import Pipeline
from ernie_vilg_jax.sampling.modes import check_mode
from ernie_vilg_jax.sampling.pipelined import stack_experts
from ernie_vilg_jax.sampling.turns import working
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.sharding.mesh import AXES, make_mesh
from ernie_vilg_jax.tables import ASSETS

DEMO = ASSETS / "demo"


def load(
    path: epath.PathLike | None = None, *, mode: str = "resident", mesh: Mapping[str, int] | None = None
) -> Pipeline:
    """The pipeline of a checkpoint or of a training run (its newest checkpoint); the demo's without a path.

    Args:
      path: a folder, a URL of a bucket, or hf://OWNER/NAME[@REVISION] on the Hugging Face hub.
      mode: where the experts are while sampling: "resident", "streamed" or "pipelined" (docs/sampling.md).
      mesh: sizes of mesh axes, such as {"expert": 4}; `data` takes the remaining devices. None is one device.

    Compiled programs are kept on disk (`compilation_cache`).

    Raises UserError if there is no checkpoint, if it is damaged or of another version, or if the mode does not fit the
    mesh.
    """
    if path is None and not DEMO.is_dir():
        raise UserError(f"checkpoint: the demo's is missing from {DEMO}; name another")
    try:
        found = checkpointing.find(DEMO if path is None else path)
    except UserError as error:
        raise UserError(str(error).replace("--checkpoint=", "checkpoint=")) from error
    config = checkpointing.read_config(found, default_config())
    weights = digest(checkpointing.read_metadata(found))[:12]
    model = build_model(config)
    stages, names = _experts(found, model)
    compilation_cache.enable()
    devices = None if mesh is None else _mesh(mesh)
    check_mode(mode, stages.n, devices)
    params = _read_params(found, model, names, jnp.dtype(config.dtype), mode, devices)
    tokenizer = checkpointing.read_tokenizer(found)
    return Pipeline(config, model, stages, params, tokenizer, mode=mode, mesh=devices, weights=weights)


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
    path: epath.Path, model: Model, names: Sequence[str], dtype: jnp.dtype, mode: str, mesh: Mesh | None
) -> ModelParams:
    """The parameters as `mode` takes them: on the devices, as functions that read them, or as a bank."""
    shapes = _shapes(model, names, dtype)

    def read(name: str, place: Callable[[Any], Any]) -> Params:
        tree = checkpointing.read_items(path, {name: place(shapes[name])})[name]
        return tree.get("ema", tree)

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
    key = jax.random.key(0)
    averages = lambda tree: {"ema": jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), tree)}  # noqa: E731
    unet, text_encoder = (averages(jax.eval_shape(init, key)) for init in (model.init_unet, model.init_text_encoder))
    return {"autoencoder": model.abstract_autoencoder(), "text_encoder": text_encoder, **dict.fromkeys(names, unet)}


def _in_numpy(tree: Any) -> Any:
    """Tells `read_items` to return numpy arrays."""
    return jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), tree)


def export(
    path: str | Path, output: str | Path, *, prompts: Sequence[str] | None = None, overwrite: bool = False
) -> int:
    """Writes the part of a checkpoint or run that sampling needs to `output`, in bf16; returns its size in bytes.

    All of it must fit in host memory; devices are not used.
    `prompts` are the examples that `sample` uses without `--prompt`.
    """
    target = components.free(output, path, overwrite)
    found = checkpointing.find(path)
    metadata = checkpointing.read_metadata(found)
    # Paths of the training machine mean nothing elsewhere.
    metadata["config"]["data"]["path"] = metadata["config"]["tokenizer"]["path"] = ""
    for field in ("init_from", "autoencoder_from", "text_encoder_from", "unet_from"):
        metadata["config"]["phases"]["base"][field] = ""
    if prompts:
        metadata["config"]["train"]["preview_prompts"] = list(prompts)
    model = build_model(checkpointing.read_config(found, default_config()))
    shapes = _shapes(model, _experts(found, model)[1], jnp.bfloat16)
    half = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16)  # noqa: E731
    shapes["autoencoder"]["params"] = jax.tree.map(half, shapes["autoencoder"]["params"])
    items = checkpointing.read_items(found, _in_numpy(shapes))
    items["tokenizer"] = checkpointing.pack_tokenizer(checkpointing.read_tokenizer(found))
    with paths.replacing(target) as fresh:
        checkpointing.save_once(fresh, items, metadata)
    return sum((folder / file).stat().length for folder, _, files in target.walk() for file in files)
