"""Every program of a run, built from its config: what `aot` compiles.

`PROGRAMS` has them by name, in the order of a run. A new one needs a function here, and its name in `NAMES`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from ernie_vilg_jax.aliases import Params, Tree
from ernie_vilg_jax.data.sizes import Size
from ernie_vilg_jax.diffusion.samplers import make_sampler
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.forecast.abstract import (
    Shape,
    batch_shapes,
    first_size,
    make_task,
    parts,
    placed_batch,
    sampling_flops,
    sampling_params,
    title,
    turns,
)
from ernie_vilg_jax.forecast.report import Built
from ernie_vilg_jax.model import ModelParams, build_model
from ernie_vilg_jax.sampling.generator import generate
from ernie_vilg_jax.sampling.modes import check_mode
from ernie_vilg_jax.sampling.turns import working
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.training.diffusion import DiffusionTask
from ernie_vilg_jax.training.items import Cutter
from ernie_vilg_jax.training.latents import Encoder, piece_of
from ernie_vilg_jax.training.validation import PREVIEW_STEPS, Validator

Builder = Callable[[ConfigDict, Mesh, int], Built]
"""(config, mesh, images at once in sampling) -> the program. Raises UserError if the config does not fit the mesh."""


def step(phase: str, encoded: bool, config: ConfigDict, mesh: Mesh, batch: int) -> Built:
    """A training step, on images that it encodes itself or on latents that are `encoded` already."""
    task = make_task(phase, config, mesh)
    example = placed_batch(batch_shapes(config, task, encoded), mesh)

    data = "" if phase == "autoencoder" else f", of {'latents' if encoded else 'images, encoded in it'}"
    return Built(
        f"{title(config, mesh, first_size(config, task))}, training step of {phase}{data}",
        mesh,
        task.batch_size,
        task.train_step,
        (task.abstract, example),
        {**parts(task), "batch": example},
        partial(task.flops_per_step, example),
    )


def save(phase: str, config: ConfigDict, mesh: Mesh, batch: int) -> Built:
    """The last part of the copy that a checkpoint is written from, with the state and the other parts in memory."""
    task = make_task(phase, config, mesh)
    cutter = Cutter(task, mesh)
    copy, arguments = cutter.programs()[-1]
    last = task.experts[-mesh.shape["expert"] :] if task.experts else tuple(cutter.abstract)
    copied = {name: item for name, item in cutter.abstract.items() if name not in last}
    jitted = jax.jit(lambda copied, *arguments: copy(*arguments), keep_unused=True)
    name = f"{title(config, mesh)}, copy for a checkpoint of {phase}"
    return Built(name, mesh, 0, jitted, (copied, *arguments), {**parts(task), "copied before": copied})


def encoding(config: ConfigDict, mesh: Mesh, batch: int) -> Built:
    """One piece of the images that `encode` encodes, or a start with data.cache_latents or data.resident.

    In `encode` each process has a mesh of its own chips; the memory of a chip is that of any number of them.
    """
    size = first_size(config)
    encoder, autoencoder, images = _frozen(config, mesh, size)
    name = f"{title(config, mesh, size)}, encoding of images"
    return Built(name, mesh, images.shape[0], encoder.posterior, (autoencoder, images), {"autoencoder": autoencoder})


def statistics(config: ConfigDict, mesh: Mesh, batch: int) -> Built:
    """One piece of the images on which the latents' mean and deviation are measured, before the phase `base`."""
    encoder, autoencoder, images = _frozen(config, mesh, Size(config.model.image_size, config.model.image_size))
    valid = placed_batch({"valid": ((encoder.piece,), jnp.bool_)}, mesh)["valid"]
    name = f"{title(config, mesh)}, latent statistics"
    args = autoencoder, images, valid
    return Built(name, mesh, encoder.piece, encoder.moments, args, {"autoencoder": autoencoder})


def validation(phase: str, config: ConfigDict, mesh: Mesh, batch: int) -> Built:
    """One piece of the validation, with the whole state in memory."""
    task = make_task(phase, config, mesh)
    image = first_size(config, task)
    size = piece_of(task.model, mesh, image.height * image.width)
    shapes: dict[str, Shape] = {"image": ((size, *image, 3), jnp.uint8), "valid": ((size,), jnp.bool_)}
    if phase == "autoencoder":
        run: Callable[..., Tree] = lambda state, piece: task.errors_of(state["ema"], piece)  # noqa: E731
    else:
        words = size, config.tokenizer.max_length
        shapes |= {"tokens": (words, jnp.int32), "token_mask": (words, jnp.bool_)}
        losses_of, count = _validator(task).losses_of, config.train.validation_samples
        run = lambda state, piece: losses_of(state, piece, jnp.int32(0), count)  # noqa: E731
    piece = placed_batch(shapes, mesh)
    name = f"{title(config, mesh, image)}, validation of {phase}"
    return Built(name, mesh, size, _beside(run, mesh), (task.abstract, piece), {**parts(task), "batch": piece})


def preview(phase: str, config: ConfigDict, mesh: Mesh, batch: int) -> Built:
    """Images of the preview prompts, with the whole state in memory."""
    task = make_task(phase, config, mesh)
    count, whole = len(config.train.preview_prompts) or 1, rules.replicated(mesh)
    prompts = _prompts(config, count, whole, whole)
    size = first_size(config)
    name = f"{title(config, mesh, size)}, preview of {phase}"
    run = lambda state, prompts: _validator(task).sample(state, prompts, size)  # noqa: E731
    return _images(name, task, prompts, (), run, PREVIEW_STEPS)


def evaluation(phase: str, config: ConfigDict, mesh: Mesh, batch: int) -> Built:
    """One piece of the images that are judged while training, with the whole state in memory."""
    task = make_task(phase, config, mesh)
    size, whole = first_size(config), rules.replicated(mesh)
    count = piece_of(task.model, mesh, size.height * size.width)
    prompts = _prompts(config, count, rules.batch_sharding(mesh), whole)
    numbers = jax.ShapeDtypeStruct((count,), jnp.int32, sharding=whole)
    name = f"{title(config, mesh, size)}, images for the evaluation of {phase}"
    run = lambda *inputs: _validator(task).sample_piece(*inputs, size)  # noqa: E731
    return _images(name, task, prompts, (numbers,), run, config.evaluation.steps)


def sampling(config: ConfigDict, mesh: Mesh, batch: int) -> Built:
    """Prompts -> images with all experts resident: text encoder, the whole loop with guidance, decoder.

    Images are split over `data` and `fsdp`; experts are whole on every chip, or cut along `tensor`.
    """
    check_mode("resident", config.experts.n, mesh)
    across = mesh.shape["data"] * mesh.shape["fsdp"]
    batch = batch or across
    if batch % across:
        raise UserError(f"--batch={batch} must be a multiple of {across}, the chips that images are split over")
    model, size = build_model(config), first_size(config)
    settings = config.sample
    sampler = make_sampler(settings.sampler, model.schedule, settings.steps)
    key = jax.random.key(0)
    params = sampling_params(model, jnp.dtype(config.dtype), lambda tree: rules.placed(tree, working(tree, mesh)))
    words = [jax.ShapeDtypeStruct((batch, config.tokenizer.max_length), t) for t in (jnp.int32, jnp.bool_)]
    whole = rules.replicated(mesh)
    null = tuple(jax.ShapeDtypeStruct((1, *word.shape[1:]), word.dtype, sharding=whole) for word in words)
    noise = jax.ShapeDtypeStruct((batch, *model.latent_shape_of(*size)), jnp.float32)
    over = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    tokens, mask, noise = (jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=over) for x in (*words, noise))

    def run(
        params: ModelParams,
        tokens: jax.Array,
        mask: jax.Array,
        null: tuple[jax.Array, jax.Array],
        noise: jax.Array,
        scale: jax.Array,
    ) -> jax.Array:
        return generate(model, params, model.stages, sampler, tokens, mask, null, noise, scale, key)

    return Built(
        f"{title(config, mesh, size)}, {settings.steps} steps of {settings.sampler} with guidance",
        mesh,
        batch,
        jax.jit(run, out_shardings=over),
        (params, tokens, mask, null, noise, jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)),
        {
            **{"autoencoder": params.autoencoder, "text encoder": params.text_encoder},
            f"experts ({model.stages.n})": params.experts,
        },
        partial(sampling_flops, model, settings.steps, params, (tokens, mask), null, noise),
        turns(model.stages, sampler),
    )


PROGRAMS: dict[str, Builder] = {
    "autoencoder_step": partial(step, "autoencoder", False),
    "autoencoder_validation": partial(validation, "autoencoder"),
    "autoencoder_save": partial(save, "autoencoder"),
    "statistics": statistics,
    "encoding": encoding,
    "base_step": partial(step, "base", False),
    "base_step_encoded": partial(step, "base", True),
    "base_validation": partial(validation, "base"),
    "base_preview": partial(preview, "base"),
    "base_evaluation": partial(evaluation, "base"),
    "base_save": partial(save, "base"),
    "experts_step": partial(step, "experts", False),
    "experts_step_encoded": partial(step, "experts", True),
    "experts_validation": partial(validation, "experts"),
    "experts_preview": partial(preview, "experts"),
    "experts_evaluation": partial(evaluation, "experts"),
    "experts_save": partial(save, "experts"),
    "sampling": sampling,
}


def build(name: str, config: ConfigDict, mesh: Mesh, batch: int = 0) -> Built:
    """The program of that name in `PROGRAMS`, or for "training" the step of `config.phase` on its kind of data."""
    if name == "training":
        name = f"{config.phase}_step"
        latents = config.data.cache_latents or config.data.resident
        name += "_encoded" if latents and config.phase != "autoencoder" else ""
    return PROGRAMS[name](config.copy_and_resolve_references(), mesh, batch)


def _frozen(config: ConfigDict, mesh: Mesh, size: Size) -> tuple[Encoder, Params, jax.ShapeDtypeStruct]:
    """The encoder, its autoencoder, and one piece of images."""
    encoder = Encoder(build_model(config), mesh)
    abstract = encoder.model.abstract_autoencoder()
    piece = piece_of(encoder.model, mesh, size.height * size.width)
    images = placed_batch({"image": ((piece, *size, 3), jnp.uint8)}, mesh)["image"]
    return encoder, rules.placed(abstract, rules.shardings(abstract, mesh)), images


Prompts = dict[str, jax.ShapeDtypeStruct]


def _prompts(config: ConfigDict, count: int, own: NamedSharding, null: NamedSharding) -> Prompts:
    """Tokens and masks of `count` prompts and of the empty one."""
    rows = {"tokens": (count, own), "mask": (count, own), "null_tokens": (1, null), "null_mask": (1, null)}
    length = config.tokenizer.max_length
    return {
        name: jax.ShapeDtypeStruct((n, length), jnp.bool_ if "mask" in name else jnp.int32, sharding=sharding)
        for name, (n, sharding) in rows.items()
    }


def _images(
    name: str,
    task: DiffusionTask,
    prompts: Prompts,
    more: tuple[jax.ShapeDtypeStruct, ...],
    run: Callable[..., jax.Array],
    steps: int,
) -> Built:
    """A program (state, prompts, *more) -> images, by the averages."""
    model, state, count = task.model, task.abstract, prompts["tokens"].shape[0]
    one = jax.eval_shape(lambda bank: jax.tree.map(lambda leaf: leaf[0], bank), state["experts"]["ema"])
    params = ModelParams(state["autoencoder"], state["text_encoder"]["ema"], (one,))
    words, null = (prompts["tokens"], prompts["mask"]), (prompts["null_tokens"], prompts["null_mask"])
    noise = jax.ShapeDtypeStruct((count, *model.latent_shape_of(*first_size(task.config))), jnp.float32)
    return Built(
        name,
        task.mesh,
        count,
        _beside(run, task.mesh),
        (state, prompts, *more),
        parts(task),
        partial(sampling_flops, model, steps, params, words, null, noise),
        turns(task.stages, make_sampler("ddim", model.schedule, steps, grid="trailing")),
    )


def _validator(task: DiffusionTask) -> Validator:
    return Validator(task.config, task.model, task.mesh, task.stages, task.trained)


def _beside(function: Callable[..., Tree], mesh: Mesh) -> jax.stages.Wrapped:
    """Jitted so that unused arguments keep their memory, as in a run."""
    return jax.jit(lambda *args: function(*args), keep_unused=True, out_shardings=rules.replicated(mesh))
