"""How close each sampler comes, in few steps, to the exact probability flow.

    python -m benchmarks.samplers                                  # the demo model, some minutes on a CPU
    python -m benchmarks.samplers --checkpoint=runs/mine --samplers=dpmpp_2m,dpmpp_2m/karras --steps=10,20

All samplers start from the same noise and prompts, and are compared with DDIM in many steps: the root mean square of
the difference, in latents (of unit variance) and in images (levels of 255), and the median of each image's own RMS.
"Other" counts images whose latents differ by more than 0.5: these became another image, which happens if the noise lies
between two, and they make up most of the RMS. Seconds are for all images, without compiling; processor seconds do not
depend on other programs.
"""

import time
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app, flags, logging

from ernie_vilg_jax.diffusion.guidance import Guidance, Numbers
from ernie_vilg_jax.diffusion.loop import sample
from ernie_vilg_jax.diffusion.samplers import SAMPLERS, make_sampler
from ernie_vilg_jax.diffusion.schedule import Denoised
from ernie_vilg_jax.pipeline import Pipeline, load
from ernie_vilg_jax.sampling.generator import guided_prediction
from ernie_vilg_jax.sampling_params import make_params

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Checkpoint or run. (default: the demo model)")
_SAMPLERS = flags.DEFINE_list(
    "samplers",
    ["ddim", "heun", "dpmpp_2m", "unipc"],
    "Names in the registry, or name/grid for another time grid.",
)
_STEPS = flags.DEFINE_list("steps", ["5", "10", "15", "20", "25", "50"], "Numbers of steps.")
_REFERENCE = flags.DEFINE_integer("reference", 500, "DDIM steps of the reference.")
_GUIDANCE_SCALE = flags.DEFINE_float("guidance_scale", None, "(default: the checkpoint's)")
_PROMPTS = flags.DEFINE_multi_string("prompt", None, "Repeat for more. (default: the checkpoint's examples)")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 2, "Images of each prompt.")


class Bench:
    """One batch of prompts and noise, sampled in many ways."""

    def __init__(self, pipe: Pipeline, prompts: list[str], count: int, guidance: Numbers) -> None:
        self.model, self.stages, self.params, self.guidance = pipe.model, pipe.stages, pipe.params, guidance
        ids, masks, _ = zip(*(pipe.tokenizer.encode(prompt) for prompt in prompts for _ in range(count)), strict=True)
        null_ids, null_mask, _ = pipe.tokenizer.encode("")
        read = jax.jit(self.model.encode_text)
        self.text = read(self.params.text_encoder, np.stack(ids), np.stack(masks))
        self.null_text = read(self.params.text_encoder, null_ids[None], null_mask[None])
        self.noise = jax.random.normal(jax.random.key(0), (len(ids), *self.model.latent_shape))
        self.decode = jax.jit(self.model.decode)

    def __call__(self, name: str, steps: int, grid: str = "") -> "Result":
        sampler = make_sampler(name, self.model.schedule, steps, grid=grid)

        def run(params: Any, text: Any, null_text: Any, noise: jax.Array) -> jax.Array:
            def apply(unet: Any, x: jax.Array, t: jax.Array) -> Denoised:
                return guided_prediction(self.model, unet, x, t, text, (null_text, self.guidance))

            return sample(params.experts, apply, self.stages, sampler, noise, jax.random.key(1))

        inputs = self.params, self.text, self.null_text, self.noise
        program = jax.jit(run).lower(*inputs).compile()
        wall, processor = time.perf_counter(), time.process_time()
        latents = jax.block_until_ready(program(*inputs))
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        images = 127.5 * (self.decode(self.params.autoencoder, latents) + 1)
        return Result(np.asarray(latents), np.asarray(images), wall, processor)


class Result(NamedTuple):
    latents: np.ndarray
    """[B, h, w, c]"""
    images: np.ndarray
    """[B, H, W, 3] in 0..255, not rounded."""
    wall: float
    """Seconds for the latents."""
    processor: float


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[B]: root mean square of each image's difference."""
    return np.sqrt(np.mean((one - other) ** 2, axis=tuple(range(1, one.ndim))))


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)
    pipe = load(_CHECKPOINT.value)
    given = {"guidance_scale": _GUIDANCE_SCALE.value}
    scale = make_params(pipe.config.sample, given).guidance_scale
    prompts = _PROMPTS.value or list(pipe.config.train.preview_prompts)
    bench = Bench(pipe, prompts, _NUM_IMAGES.value, Guidance(scale).numbers(pipe.stages))
    aim = bench("ddim", _REFERENCE.value)
    print(f"{len(bench.noise)} images of {pipe.model.image_size} pixels, guidance {scale:g}, jax {jax.__version__}")
    print(f"compared with ddim in {_REFERENCE.value} steps ({aim.wall:.1f} s); its latents have an RMS of ", end="")
    print(f"{np.sqrt(np.mean(aim.latents**2)):.2f}\n")
    print("| sampler | grid | steps | latents, RMS | median | images, RMS | median | other | s | processor s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, grid in (f"{word}/".split("/")[:2] for word in _SAMPLERS.value):
        for steps in map(int, _STEPS.value):
            result = bench(name, steps, grid)
            cells = [f"{name} | {grid or SAMPLERS[name].grid} | {steps}"]
            latents, images = distances(result.latents, aim.latents), distances(result.images, aim.images)
            for apart, digits in ((latents, 3), (images, 1)):
                cells += [f"{np.sqrt(np.mean(apart**2)):.{digits}f}", f"{np.median(apart):.{digits}f}"]
            cells += [str(np.sum(latents > 0.5)), f"{result.wall:.1f}", f"{result.processor:.1f}"]
            print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    app.run(main)
