"""Parts of programs without any array: tasks without data, abstract batches and parameters, meshes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from ernie_vilg_jax.aliases import Tree
from ernie_vilg_jax.chips import Chip
from ernie_vilg_jax.config import downsampling
from ernie_vilg_jax.data.sizes import Size, sizes_of
from ernie_vilg_jax.diffusion.loop import visits
from ernie_vilg_jax.diffusion.samplers import Sampler
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.model import Model, ModelParams, build_model
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.training.autoencoder import AutoencoderTask
from ernie_vilg_jax.training.diffusion import DiffusionTask
from ernie_vilg_jax.training.flops import count_flops
from ernie_vilg_jax.training.validation import Validation

Shape = tuple[tuple[int, ...], DTypeLike]
"""Sizes and dtype."""
Abstract = jax.ShapeDtypeStruct


def make_task(phase: str, config: ConfigDict, mesh: Mesh) -> Any:
    """The task of a phase, without data."""
    config = config.copy_and_resolve_references()
    config.phase = phase
    model, nothing = build_model(config), Validation(0, {}, {})
    if phase == "autoencoder":
        return AutoencoderTask(config, model, mesh, nothing)
    return DiffusionTask(config, model, mesh, nothing)


def sampling_flops(
    model: Model,
    steps: int,
    params: ModelParams,
    words: Sequence[Abstract],
    null: Sequence[Abstract],
    noise: Abstract,
) -> float:
    """FLOPs of sampling with guidance, summed by parts, because the number of steps of a stage is data to the program.

    Each step evaluates every image twice; the prompts and the empty prompt are encoded once.
    """
    model = model.without_recomputation()
    text = jax.eval_shape(model.encode_text, params.text_encoder, *words)
    at = jax.ShapeDtypeStruct(noise.shape[:1], jnp.int32)
    total = 2 * steps * count_flops(model.prediction, params.experts[0], noise, at, text)
    total += count_flops(model.encode_text, params.text_encoder, *words)
    total += count_flops(model.encode_text, params.text_encoder, *null)
    return total + count_flops(model.decode, params.autoencoder, noise)


def turns(stages: Stages, sampler: Sampler) -> int:
    """Steps of a stage, on average."""
    return round(len(sampler.timesteps) / len(visits(stages, sampler.timesteps)))


def parts(task: AutoencoderTask | DiffusionTask) -> dict[str, Tree]:
    """The state of a task, by the names in the report."""
    names = {"params": "parameters", "ema": "average", "opt": "optimizer"}
    state = task.abstract
    if "experts" not in state:
        return {f"autoencoder, {names[name]}": state[name] for name in names}
    whole = {"autoencoder": state["autoencoder"], "text encoder": state["text_encoder"]}
    return whole | {f"experts, {names[name]}": tree for name, tree in state["experts"].items()}


def batch_shapes(config: ConfigDict, task: AutoencoderTask | DiffusionTask, encoded: bool = False) -> dict[str, Shape]:
    """Shape and dtype of every array that a training step gets: of images, or of latents that are `encoded` already.

    The images have the first of the config's sizes.
    """
    batch, length, factor = task.batch_size, config.tokenizer.max_length, downsampling(config)
    size = first_size(config, task)
    cells = size.height // factor, size.width // factor
    image = {"image": ((batch, *size, 3), jnp.uint8)}
    if isinstance(task, AutoencoderTask):
        return image
    every: dict[str, Shape] = {
        "tokens": ((batch, length), jnp.int32),
        "token_mask": ((batch, length), jnp.bool_),
        "token_weight": ((batch, length), jnp.float32),
        "loss_weight": ((batch, *cells), jnp.float32),
    }
    shapes = {name: every[name] for name in task.words}
    if not encoded:
        return shapes | image
    latents = ((batch, *cells, config.model.autoencoder.latent_channels), jnp.bfloat16)
    return shapes | {"mean": latents, "log_variance": latents}


def first_size(config: ConfigDict, task: Any = None) -> Size:
    """The first of the sizes of a config; an autoencoder is trained on squares."""
    square = Size(config.model.image_size, config.model.image_size)
    return square if isinstance(task, AutoencoderTask) else sizes_of(config)[0]


def placed_batch(shapes: Mapping[str, Shape], mesh: Mesh) -> dict[str, Abstract]:
    over = rules.batch_sharding(mesh)
    return {name: jax.ShapeDtypeStruct(*shape, sharding=over) for name, shape in shapes.items()}


def sampling_params(model: Model, dtype: DTypeLike, place: Callable[[Tree], Tree]) -> ModelParams:
    """Abstract parameters as sampling holds them: in `dtype`, except the autoencoder."""
    half = lambda tree: place(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), tree))  # noqa: E731
    expert = half(model.abstract_unet())
    text_encoder = half(model.abstract_text_encoder())
    return ModelParams(place(model.abstract_autoencoder()), text_encoder, (expert,) * model.stages.n)


def config_for(program: str, config: ConfigDict, chips: int, chip: Chip) -> ConfigDict:
    """`config` with a mesh for `program`; it comes with the mesh of the phase `experts`.

    Programs without experts use those chips for `data`, as the commands in configs/paper.py do; `encode` uses all chips
    for it. Sampling cuts parameters along `tensor` into as few pieces as leave a quarter of a chip's memory for images.
    """
    config = config.copy_and_resolve_references()
    if program == "sampling":
        params = sampling_params(build_model(config), jnp.dtype(config.dtype), lambda tree: tree)
        size, tensor = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params)), 1
        while size / tensor > 0.75 * chip.hbm and chips % (2 * tensor) == 0:
            tensor *= 2
        config.mesh = ConfigDict({"data": chips // tensor, "fsdp": 1, "tensor": tensor, "expert": 1})
    elif program == "encoding":  # `encode` has the whole autoencoder on every chip
        config.mesh = ConfigDict({"data": chips, "fsdp": 1, "tensor": 1, "expert": 1})
    elif not program.startswith("experts"):
        config.mesh.data *= config.mesh.expert if config.mesh.data > 0 else 1
        config.mesh.expert = 1
    return config


def title(config: ConfigDict, mesh: Mesh, size: Size | None = None) -> str:
    """What is compiled; images of `size`, by default squares."""
    axes = ", ".join(f"{axis}={size}" for axis, size in mesh.shape.items() if size > 1)
    height, width = size or (config.model.image_size,) * 2
    return f"{config.name}, {height} x {width} pixels, mesh {axes or 'of one chip'}"
