"""Prompts to pictures: what the API, the command line and the notebooks all call.

pipe = ernie_vilg_jax.load()                      # the demo checkpoint that comes with the package
images = pipe(["一只猫", "a slice of pizza"], seed=1)
"""

import logging
import math
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.diffusion.samplers import SAMPLERS, time_grid
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.parallel import rules
from ernie_vilg_jax.parallel.mesh import make_mesh
from ernie_vilg_jax.system import Parts, System, build_system
from ernie_vilg_jax.training import checkpoints
from ernie_vilg_jax.training.diffusion import expert_name
from ernie_vilg_jax.training.task import to_uint8

DEMO = Path(__file__).parent / "assets" / "demo"
BATCH_SIZES = (1, 2, 4, 8, 16)
"""Batches are filled up to one of these, so that few programs are ever compiled."""

log = logging.getLogger(__name__)


def load(path: str | Path | None = None) -> "Pipeline":
    """The pipeline of a checkpoint or of a training run (its newest checkpoint); the demo's without a path.

    Raises UserError when there is none, or when it is damaged or of another version.
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
    parts = _read_parts(found, system, names, jnp.dtype(config.dtype))
    return Pipeline(config, system, stages, parts, checkpoints.read_tokenizer(found))


def _read_parts(path: Path, system: System, names: Sequence[str], dtype: jnp.dtype) -> Parts:
    key = jax.random.key(0)
    half = lambda tree: jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), tree)  # noqa: E731
    unet = {"ema": half(jax.eval_shape(system.init_unet, key))}
    abstract = {
        "autoencoder": system.abstract_autoencoder(),
        "text_encoder": {"ema": half(jax.eval_shape(system.init_text_encoder, key))},
        **dict.fromkeys(names, unet),
    }
    mesh = make_mesh({"data": -1}, jax.local_devices()[:1])
    abstract = rules.placed(abstract, rules.shardings(abstract, mesh))
    items = checkpoints.read_items(path, abstract)
    experts = tuple(items[name]["ema"] for name in names)
    return Parts(items["autoencoder"], items["text_encoder"]["ema"], experts)


class Pipeline:
    """A trained model, ready to be asked. Programs are compiled once per batch size, number of steps and sampler."""

    def __init__(self, config: ConfigDict, system: System, stages: Stages, parts: Parts, tokenizer: Tokenizer) -> None:
        self.config = config
        self.system = system
        self.stages = stages
        self.parts = parts
        self.tokenizer = tokenizer
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
        pictures: list[Image.Image] = []
        start = 0
        while start < len(tokens):
            left = len(tokens) - start
            size = next((size for size in BATCH_SIZES if size >= left), BATCH_SIZES[-1])
            count = min(size, left)
            rows = [min(start + i, len(tokens) - 1) for i in range(size)]
            program = self._program(size, steps, name, scale == 1.0)
            images = program(
                self.parts,
                np.stack([tokens[row] for row in rows]),
                np.stack([masks[row] for row in rows]),
                self._null,
                np.arange(start, start + size),
                np.uint32(seed % 2**32),
                np.float32(scale),
            )
            pictures += [Image.fromarray(picture) for picture in to_uint8(images)[:count]]
            start += count
        return pictures

    def _tokens(self, prompt: str) -> tuple[np.ndarray, np.ndarray]:
        if not prompt.strip():
            raise UserError("a prompt is empty; say what the picture should show, such as --prompt=一只猫")
        ids, mask, cut = self.tokenizer.encode(prompt)
        if cut:
            limit = self.tokenizer.max_length
            log.warning("prompt %r is longer than %d tokens; the model does not see %r", prompt[:40], limit, cut)
        return ids, mask

    def _program(self, size: int, steps: int, name: str, unguided: bool) -> Any:
        """The jitted sampler of one batch size; compiled at its first call."""
        wanted = (size, steps, name, unguided)
        if wanted not in self._programs:
            schedule = self.system.schedule
            try:
                grid = time_grid("trailing", steps, schedule.num_timesteps)
            except ValueError as error:
                raise UserError(str(error)) from error
            sampler = SAMPLERS[name](schedule, grid)

            def run(parts: Parts, tokens: Any, mask: Any, null: Any, numbers: Any, seed: Any, scale: Any) -> jax.Array:
                key = jax.random.key(seed)
                # Noise by picture number: the same picture in whatever batch it is made.
                keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
                noise = jax.vmap(lambda key: jax.random.normal(key, self.system.latent_shape))(keys)
                guidance = 1 if unguided else scale
                return self.system.generate(parts, self.stages, sampler, tokens, mask, null, noise, guidance, key)

            self._programs[wanted] = jax.jit(run)
            log.info("compiling for %d pictures at %d steps", size, steps)
        return self._programs[wanted]


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
