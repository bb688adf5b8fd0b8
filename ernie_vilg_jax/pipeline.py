"""Prompts to pictures: what the API, the command line and the notebooks all call.

pipe = ernie_vilg_jax.load()                      # the demo checkpoint that comes with the package
images = pipe(["一只猫", "a slice of pizza"], seed=1)
"""

import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.diffusion.samplers import SAMPLERS, Sampler, make_sampler
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.parallel import rules
from ernie_vilg_jax.parallel.batches import spread
from ernie_vilg_jax.parallel.mesh import AXES, make_mesh
from ernie_vilg_jax.parallel.pipelining import stack_experts
from ernie_vilg_jax.parallel.sampling import check_mode
from ernie_vilg_jax.parallel.streaming import working
from ernie_vilg_jax.system import Generator, Params, Parts, System, build_system
from ernie_vilg_jax.training import checkpoints
from ernie_vilg_jax.training.diffusion import expert_name
from ernie_vilg_jax.training.task import to_uint8

DEMO = Path(__file__).parent / "assets" / "demo"
BATCH_SIZES = (1, 2, 4, 8, 16)
"""Batches are filled up to one of these, so that few programs are ever compiled."""

log = logging.getLogger(__name__)


def load(
    path: epath.PathLike | None = None, *, mode: str = "resident", mesh: Mapping[str, int] | None = None
) -> "Pipeline":
    """The pipeline of a checkpoint or of a training run (its newest checkpoint); the demo's without a path.

    Args:
      mode: where the experts are while sampling: "resident", "streamed" or "pipelined" (docs/sampling.md).
      mesh: sizes of mesh axes, such as {"expert": 4}; `data` takes the devices that are left. One device without it.

    Raises UserError when there is no checkpoint, when it is damaged or of another version, or when the mode does not
    fit the mesh.
    """
    if path is None and not DEMO.is_dir():
        raise UserError(f"the demo checkpoint is missing from {DEMO}; name one with --checkpoint=")
    found = checkpoints.find(DEMO if path is None else path)
    config = checkpoints.read_config(found, default_config())
    system = build_system(config)
    # Stage 1 has one U-Net in charge of all timesteps.
    single = checkpoints.read_metadata(found)["target"] == "stage1"
    stages = Stages((), system.schedule.num_timesteps) if single else system.stages
    names = [expert_name(stage) for stage in range(stages.n)]
    missing = set(names) - set(checkpoints.item_names(found))
    if missing:
        raise UserError(
            f"checkpoint {found} has no {', '.join(sorted(missing))}: sampling needs the expert of every stage"
        )
    devices = None if mesh is None else _mesh(mesh)
    check_mode(mode, stages.n, devices)
    parts = _read_parts(found, system, names, jnp.dtype(config.dtype), mode, devices)
    return Pipeline(config, system, stages, parts, checkpoints.read_tokenizer(found), mode=mode, mesh=devices)


def _mesh(sizes: Mapping[str, int]) -> Mesh:
    unknown = set(sizes) - set(AXES)
    if unknown:
        raise UserError(f"--mesh has no axis {', '.join(sorted(unknown))}; its axes are {', '.join(AXES)}")
    try:
        return make_mesh(sizes if -1 in sizes.values() else {"data": -1, **sizes})
    except UserError as error:
        # Here the mesh is not the config's, which is that of the training.
        raise UserError(str(error).replace("--config.mesh", "--mesh")) from error


def _read_parts(
    path: epath.Path, system: System, names: Sequence[str], dtype: jnp.dtype, mode: str, mesh: Mesh | None
) -> Parts:
    """The parts as `mode` wants them: on the devices, as functions that read them, or as a bank."""
    key = jax.random.key(0)
    half = lambda tree: jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), tree)  # noqa: E731
    unet = {"ema": half(jax.eval_shape(system.init_unet, key))}
    text_encoder = {"ema": half(jax.eval_shape(system.init_text_encoder, key))}
    shapes = {"autoencoder": system.abstract_autoencoder(), "text_encoder": text_encoder, **dict.fromkeys(names, unet)}

    def read(name: str, place: Callable[[Any], Any]) -> Params:
        tree = checkpoints.read_items(path, {name: place(shapes[name])})[name]
        return tree.get("ema", tree)

    # Straight to where it is used: neither a host's memory nor another device need hold it first.
    at_work = lambda tree: rules.placed(tree, working(tree, mesh))  # noqa: E731
    if mode == "streamed":
        # Cut over a mesh the experts stay in its memory; else they come from disk at each call.
        if mesh is not None and mesh.shape["fsdp"] > 1:
            source: Any = partial(read, place=lambda tree: rules.placed(tree, rules.shardings(tree, mesh)))
        else:
            source = lambda name: partial(read, name, at_work)  # noqa: E731
        return Parts(source("autoencoder"), source("text_encoder"), tuple(source(name) for name in names))
    if mode == "pipelined":
        assert mesh is not None
        # As numpy: a device has room for its own experts only.
        in_numpy = lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)  # noqa: E731
        experts: Any = stack_experts([partial(read, name, partial(jax.tree.map, in_numpy)) for name in names], mesh)
    else:
        experts = tuple(read(name, at_work) for name in names)
    return Parts(read("autoencoder", at_work), read("text_encoder", at_work), experts)


class Pipeline:
    """A trained model, ready to be asked. Programs are compiled once per batch size, number of steps and sampler."""

    def __init__(
        self,
        config: ConfigDict,
        system: System,
        stages: Stages,
        parts: Parts,
        tokenizer: Tokenizer,
        *,
        mode: str = "resident",
        mesh: Mesh | None = None,
    ) -> None:
        self.config = config
        self.system = system
        self.stages = stages
        self.parts = parts
        self.tokenizer = tokenizer
        self.mode = mode
        self.mesh = mesh
        self._programs: dict[tuple[Any, ...], Any] = {}

    @cached_property
    def _null(self) -> tuple[np.ndarray, np.ndarray]:
        ids, mask, _ = self.tokenizer.encode("")
        return ids[None], mask[None]

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        num_images: int = 1,
        steps: int | None = None,
        guidance_scale: float | None = None,
        sampler: str | None = None,
        seed: int = 0,
    ) -> list[Image.Image]:
        """Pictures of the prompts: `num_images` of the first, then of the second, and so on.

        Args:
          prompts: Chinese or English. Longer ones than the tokenizer's limit are cut, with a warning that says where.
          num_images: pictures of each prompt; they differ in their noise.
          steps: denoising steps, 1..T; the config's by default.
          guidance_scale: 1 is the plain conditional model, larger follows the prompt more closely.
          sampler: a name in `diffusion.samplers.SAMPLERS`.
          seed: the same seed gives the same pictures; picture k of a call has noise of its own, whatever the batch.

        Raises UserError for an empty prompt or a number out of range.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        settings = self.config.sample
        steps = int(settings.steps if steps is None else steps)
        scale = float(settings.guidance_scale if guidance_scale is None else guidance_scale)
        name = sampler or settings.sampler
        if not prompts:
            raise UserError("there is no prompt; give one, such as --prompt=一只猫")
        if num_images < 1:
            raise UserError(f"num_images={num_images} must be at least 1")
        if not math.isfinite(scale) or scale < 0:
            raise UserError(f"guidance_scale={scale} must be a number from 0 up; 1 is no guidance, 2 to 8 are usual")
        if name not in SAMPLERS:
            raise UserError(f"sampler={name!r} is not one of {', '.join(sorted(SAMPLERS))}")
        tokens, masks = zip(*(self._tokens(prompt) for prompt in prompts for _ in range(num_images)), strict=True)
        pictures: list[np.ndarray] = []
        for numbers in self._cut(len(tokens)):
            rows = np.minimum(numbers, len(tokens) - 1)
            program = self._program(numbers.shape, steps, name, scale == 1.0)
            inputs = np.stack(tokens)[rows], np.stack(masks)[rows], numbers
            if self.mesh is not None:
                inputs = spread(inputs, self.mesh)
            images = program(self.parts, *inputs, self._null, np.uint32(seed % 2**32), np.float32(scale))
            pictures += list(to_uint8(images).reshape(-1, *images.shape[-3:]))
        return [Image.fromarray(picture) for picture in pictures[: len(tokens)]]

    def _cut(self, total: int) -> Iterator[np.ndarray]:
        """The numbers [M, b] of the pictures that go into one call of a program; those from `total` on are fillers."""
        fitting = lambda count: next((size for size in BATCH_SIZES if size >= count), BATCH_SIZES[-1])  # noqa: E731
        if self.mode == "resident":
            start = 0
            while start < total:
                size = fitting(total - start)
                yield np.arange(start, start + size)[None]
                start += size
        else:
            # All batches at once: an expert is fetched once for all of them, and no group waits for pictures.
            groups = self.mesh.shape["expert"] if self.mesh is not None else 1
            size = fitting(-(-total // groups))
            yield np.arange(-(-total // size) * size).reshape(-1, size)

    def _tokens(self, prompt: str) -> tuple[np.ndarray, np.ndarray]:
        if not prompt.strip():
            raise UserError("a prompt is empty; say what the picture should show, such as --prompt=一只猫")
        ids, mask, cut = self.tokenizer.encode(prompt)
        if cut:
            limit = self.tokenizer.max_length
            log.warning("prompt %r is longer than %d tokens; the model does not see %r", prompt[:40], limit, cut)
        return ids, mask

    def _program(self, shape: tuple[int, ...], steps: int, name: str, unguided: bool) -> Any:
        """program(parts, tokens [M, b, L], mask, numbers [M, b], null, seed, scale) -> images [M, b, H, W, 3].

        Compiled at its first call.
        """
        wanted = (shape, steps, name, unguided)
        if wanted not in self._programs:
            try:
                sampler = make_sampler(name, self.system.schedule, steps)
            except ValueError as error:
                raise UserError(str(error)) from error
            make = self._resident if self.mode == "resident" else self._in_batches
            self._programs[wanted] = make(sampler, unguided)
            log.info("compiling for %s pictures at %d steps", " x ".join(map(str, shape)), steps)
        return self._programs[wanted]

    def _resident(self, sampler: Sampler, unguided: bool) -> Any:
        """All of it in one program."""

        def run(parts: Parts, tokens: Any, mask: Any, numbers: Any, null: Any, seed: Any, scale: Any) -> jax.Array:
            guidance = 1 if unguided else scale
            inputs = tokens[0], mask[0], null, self._noise(seed, numbers)[0], guidance, jax.random.key(seed)
            return self.system.generate(parts, self.stages, sampler, *inputs)[None]

        return jax.jit(run)

    def _in_batches(self, sampler: Sampler, unguided: bool) -> Any:
        """Streamed or pipelined."""
        generator = Generator(self.system, self.mode, self.stages, sampler, guided=not unguided, mesh=self.mesh)
        draw = jax.jit(self._noise)

        def run(parts: Parts, tokens: Any, mask: Any, numbers: Any, null: Any, seed: Any, scale: Any) -> np.ndarray:
            keys = jnp.broadcast_to(jax.random.key(seed), len(numbers))
            return generator(parts, tokens, mask, null, draw(seed, numbers), scale, keys)

        return run

    def _noise(self, seed: Any, numbers: Any) -> jax.Array:
        """[M, b, h, w, c], by picture number: the same picture in whatever batch it is made."""
        key = jax.random.key(seed)
        one = lambda number: jax.random.normal(jax.random.fold_in(key, number), self.system.latent_shape)  # noqa: E731
        return jax.vmap(jax.vmap(one))(numbers)


def export(
    path: str | Path, output: str | Path, *, prompts: Sequence[str] | None = None, overwrite: bool = False
) -> int:
    """Writes what sampling needs of a checkpoint or run to `output`, in bf16; returns its size in bytes.

    `prompts` are the examples that `sample` shows when it is given none.
    """
    target = Path(output)
    if target.exists() and any(target.iterdir()):
        if not overwrite:
            raise UserError(f"{target} is not empty; name another folder, or give --overwrite")
        shutil.rmtree(target)
    found = checkpoints.find(path)
    metadata = checkpoints.read_metadata(found)
    # Folders of the machine that trained it mean nothing elsewhere.
    for section, field in (("data", "path"), ("tokenizer", "path"), ("stage1", "init_from")):
        metadata["config"][section][field] = ""
    if prompts:
        metadata["config"]["train"]["preview_prompts"] = list(prompts)
    pipe = load(found)
    half = lambda tree: jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree)  # noqa: E731
    autoencoder = {**pipe.parts.autoencoder, "params": half(pipe.parts.autoencoder["params"])}
    items = {
        "autoencoder": autoencoder,
        "text_encoder": {"ema": half(pipe.parts.text_encoder)},
        **{expert_name(stage): {"ema": half(expert)} for stage, expert in enumerate(pipe.parts.experts)},
        "tokenizer": checkpoints.pack_tokenizer(pipe.tokenizer),
    }
    checkpoints.save_once(target, items, metadata)
    return sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
