"""Makes pictures from Chinese and English prompts.

  python -m ernie_vilg_jax.sample --prompt="一只猫" --prompt="a slice of pizza, 3D style" --num_images=4 --seed=7
  python -m ernie_vilg_jax.sample --checkpoint=runs/demo --steps=25 --guidance_scale=5
  python -m ernie_vilg_jax.sample --mode=streamed           # one expert in memory at a time
  python -m ernie_vilg_jax.sample --mode=pipelined --mesh=expert=4,data=2

Writes one PNG per picture (its prompt, seed and settings are inside) and grid.png with all of them, labelled. Without
--prompt it takes the example prompts of the checkpoint; without --checkpoint, the demo model in the package.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging

from ernie_vilg_jax import cli
from ernie_vilg_jax.errors import UserError

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Checkpoint folder, or the --workdir of a training run.")
PROMPT = flags.DEFINE_multi_string("prompt", None, "What to show; repeat for more.")
NUM_IMAGES = flags.DEFINE_integer("num_images", 1, "Pictures of each prompt.")
STEPS = flags.DEFINE_integer("steps", None, "Denoising steps; the checkpoint's config has the default.")
GUIDANCE_SCALE = flags.DEFINE_float("guidance_scale", None, "1: none; larger follows the prompt more closely.")
SAMPLER = flags.DEFINE_string("sampler", None, "How to step; the checkpoint's config has the default (ddim).")
SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same pictures.")
MODE = flags.DEFINE_string(
    "mode", "resident", "Where the experts are: resident, streamed or pipelined; see docs/sampling.md."
)
MESH = flags.DEFINE_list("mesh", None, "Devices along each axis, such as expert=4,data=2; one device without it.")
OUTPUT = flags.DEFINE_string("output", "samples", "Folder for the pictures.")


def main(argv: list[str]) -> None:
    from ernie_vilg_jax.grid import labelled_grid, save_png
    from ernie_vilg_jax.pipeline import load

    cli.enable_compilation_cache()
    start = time.monotonic()
    pipe = load(CHECKPOINT.value, mode=MODE.value, mesh=axis_sizes(MESH.value))
    prompts = PROMPT.value if PROMPT.value is not None else list(pipe.config.train.preview_prompts)
    logging.info(
        "checkpoint read in %.1f s; sampling %d pictures", time.monotonic() - start, len(prompts) * NUM_IMAGES.value
    )
    start = time.monotonic()
    images = pipe(
        prompts,
        num_images=NUM_IMAGES.value,
        steps=STEPS.value,
        guidance_scale=GUIDANCE_SCALE.value,
        sampler=SAMPLER.value,
        seed=SEED.value,
    )
    seconds = time.monotonic() - start
    folder = Path(OUTPUT.value)
    labels = [prompt for prompt in prompts for _ in range(NUM_IMAGES.value)]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        settings = {
            "prompt": label,
            "seed": SEED.value,
            "number": number,
            "steps": STEPS.value or pipe.config.sample.steps,
        }
        save_png(image, folder / f"{number:03d}.png", settings)
    save_png(labelled_grid(images, labels), folder / "grid.png", {"seed": SEED.value})
    logging.info("%d pictures in %.1f s, compiling included; see %s", len(images), seconds, folder / "grid.png")


def axis_sizes(parts: Sequence[str] | None) -> dict[str, int] | None:
    """{"expert": 4, "data": 2} of ["expert=4", "data=2"]."""
    if not parts:
        return None
    try:
        return {axis.strip(): int(size) for axis, size in (part.split("=") for part in parts)}
    except ValueError as error:
        raise UserError(f"--mesh={','.join(parts)} must be axes and sizes, such as --mesh=expert=4,data=2") from error


def run() -> None:
    """Console entry point."""
    cli.run(main)


if __name__ == "__main__":
    run()
