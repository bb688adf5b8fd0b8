"""Makes pictures from Chinese and English prompts.

  python -m ernie_vilg_jax.sample --prompt="一只猫" --prompt="a slice of pizza, 3D style" --num_images=4 --seed=7
  python -m ernie_vilg_jax.sample --checkpoint=runs/demo --steps=20 --sampler=dpmpp_2m --guidance_scale=5
  python -m ernie_vilg_jax.sample --prompt="一只猫" --height=64 --width=96                      # two by three
  python -m ernie_vilg_jax.sample --prompt="一辆车" --negative_prompt="red" --guidance_interval=100,900
  python -m ernie_vilg_jax.sample --prompt="狮子" --image=cat.png --strength=0.6              # begin from a picture
  python -m ernie_vilg_jax.sample --prompt="一顶帽子" --image=cat.png --mask=white_at_the_top.png
  python -m ernie_vilg_jax.sample --mode=streamed           # one expert in memory at a time
  python -m ernie_vilg_jax.sample --mode=pipelined --mesh=expert=4,data=2

  python -m ernie_vilg_jax.sample --again=samples/000.png --steps=100 --output=finer   # by the settings inside it
  python -m ernie_vilg_jax.sample --prompt="ein Bär" --translate=Helsinki-NLP/opus-mt-mul-en --style="flat style"
  python -m ernie_vilg_jax.sample --prompt="红色的圆形在蓝色的正方形的右边" --candidates=4 --rerank=binding
  python -m ernie_vilg_jax.sample --prompts=prompts.csv --num_images=4 --output=many   # ID_0.png, ID_1.png, ...
  python -m ernie_vilg_jax.sample --prompt="a red monster" --lora=runs/mine/lora.safetensors --lora_scale=0.7

Writes one PNG per picture (its prompt, seed and settings are inside) and grid.png with all of them, labelled (prompts
and the settings of all are inside). Without --prompt it takes the example prompts of the checkpoint; without
--checkpoint, the demo model in the package.

The images of --prompts, a file of prompts (.txt, .csv, .tsv, .jsonl), are named after their ids. The same command goes
on where it was interrupted.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from absl import flags, logging

from ernie_vilg_jax import cli, shared_flags
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.paths import check_writable, local

if TYPE_CHECKING:
    from ernie_vilg_jax.pipeline import Pipeline
    from ernie_vilg_jax.pipeline.rerank import Scorer

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Checkpoint folder, or the --workdir of a training run.")
PROMPT = flags.DEFINE_multi_string("prompt", None, "What to show; repeat for more.")
RERANK = flags.DEFINE_string(
    "rerank", None, "With --candidates: the scorer that keeps the best, such as binding, alignment or clip=FOLDER."
)
PROMPTS = flags.DEFINE_string("prompts", None, "A file of prompts, in place of --prompt.")
OUTPUT = flags.DEFINE_string("output", "samples", "Folder for the pictures.")
MODE = flags.DEFINE_string(
    "mode", "resident", "Where the experts are: resident, streamed or pipelined; see docs/sampling.md."
)
MESH = flags.DEFINE_list("mesh", None, "Devices along each axis, such as expert=4,data=2; one device without it.")
shared_flags.define_sampling()
shared_flags.define_adapters()
flags.adopt_module_key_flags(shared_flags)
IMAGE = flags.DEFINE_string("image", None, "A picture to begin from; its middle is taken.")
AGAIN = flags.DEFINE_string(
    "again", None, "An image made here: makes it again from the settings inside it; other flags change some of them."
)
STYLE = flags.DEFINE_string("style", None, "A style to append to the prompts, by its Chinese or English name.")
TRANSLATE = flags.DEFINE_string(
    "translate", None, "Translates prompts that are neither Chinese nor English: a model of transformers, see docs."
)
STRENGTH = flags.DEFINE_float(
    "strength", None, "With --image: 0 leaves it as it is, 1 leaves nothing of it. (default: 0.6, with --mask 1)"
)
MASK = flags.DEFINE_string("mask", None, "With --image, of its size: only what is white here is painted anew.")


def main(argv: list[str]) -> None:
    from ernie_vilg_jax.grid import labelled_grid, save_png
    from ernie_vilg_jax.pipeline import load

    cli.enable_compilation_cache()
    start = time.monotonic()
    given = given_images()
    check_writable(OUTPUT.value, "output", "grid.png")
    folder = Path(OUTPUT.value)
    options = shared_flags.sampling_options()
    rerank = scorer(options)
    if PROMPTS.value is not None:
        make_many(options, rerank)
        return
    with shared_flags.naming_flags():
        mesh = shared_flags.axis_sizes(MESH.value)
        pipe = load(CHECKPOINT.value, mode=MODE.value, mesh=mesh, **shared_flags.adapters())
    if AGAIN.value is not None:
        make_again(pipe, {**options, **given}, folder)
        return
    prompts = PROMPT.value if PROMPT.value is not None else list(pipe.config.train.preview_prompts)
    logging.info("checkpoint read in %.1f s; sampling images of %d prompts", time.monotonic() - start, len(prompts))
    start = time.monotonic()
    options |= given
    if sys.stderr.isatty() and MODE.value != "pipelined":
        options["on_step"] = ProgressLine(sys.stderr)
    ask = pipe.inpaint if "mask" in given else pipe.image_to_image if "image" in given else pipe
    with shared_flags.naming_flags():
        images = ask(prompts, rerank=rerank, style=STYLE.value, translate=TRANSLATE.value, **options)
    seconds = time.monotonic() - start
    files = {name: Path(flag.value).name for name, flag in (("image", IMAGE), ("mask", MASK)) if flag.value}
    for number, image in enumerate(images):
        save_png(image, folder / f"{number:03d}.png", {**image.info, **files})
    labels = [prompt for prompt in prompts for _ in range(len(images) // len(prompts))]
    shared = {name: value for name, value in images[0].info.items() if all(i.info.get(name) == value for i in images)}
    save_png(labelled_grid(images, labels), folder / "grid.png", {**shared, "prompts": prompts, **files})
    logging.info("%d pictures in %.1f s, compiling included; see %s", len(images), seconds, folder / "grid.png")


def scorer(options: dict[str, Any]) -> Scorer | None:
    """The scorer of --rerank, if the flag is set."""
    from ernie_vilg_jax.pipeline.rerank import check_scorer

    rerank = None
    if RERANK.value is not None:
        from ernie_vilg_jax.evaluation.scorers import make_scorer

        rerank = make_scorer(RERANK.value)
    with shared_flags.naming_flags():
        check_scorer(options.get("candidates", 1), rerank)
    return rerank


def make_again(pipe: Pipeline, options: dict[str, Any], folder: Path) -> None:
    """Makes the image of --again; other flags change its settings."""
    from ernie_vilg_jax.grid import save_png

    if PROMPT.value is not None or PROMPTS.value is not None:
        raise UserError("--again has a prompt of its own: leave out --prompt and --prompts")
    with shared_flags.naming_flags():
        image = pipe.again(local(AGAIN.value or "", "again"), **options)
    save_png(image, folder / "000.png", image.info)
    logging.info("made again; see %s", folder / "000.png")


def make_many(options: dict[str, Any], rerank: Scorer | None) -> None:
    """Makes the images of --prompts, those that are not there yet."""
    from PIL import Image

    from ernie_vilg_jax.evaluation import making
    from ernie_vilg_jax.evaluation.image_sets import pixels
    from ernie_vilg_jax.grid import labelled_grid, save_png
    from ernie_vilg_jax.pipeline.prompts import read_prompts

    for name, flag in (
        ("prompt", PROMPT),
        ("image", IMAGE),
        ("again", AGAIN),
        ("style", STYLE),
        ("translate", TRANSLATE),
    ):
        if flag.value is not None:
            raise UserError(f"--prompts is for text to image alone: leave out --{name}")
    prompts = read_prompts(PROMPTS.value or "")
    seed, each = options.pop("seed", 0), options.pop("num_images", 1)
    mesh = shared_flags.axis_sizes(MESH.value)
    with shared_flags.naming_flags():
        subject = making.Subject.of(CHECKPOINT.value, MODE.value, mesh, **shared_flags.adapters())
        made = subject.make(prompts, Path(OUTPUT.value), options, rerank=rerank, each=each, seed=seed)
    shown = range(min(len(made.own), 64))
    images = [Image.fromarray(pixels(made.images, number)) for number in shown]
    labels = [prompts[made.own[number]].text for number in shown]
    save_png(labelled_grid(images, labels), Path(OUTPUT.value) / "grid.png", {"seed": seed})
    logging.info("%d pictures of %d prompts; see %s", len(made.own), len(prompts), Path(OUTPUT.value) / "grid.png")


def given_images() -> dict[str, Any]:
    """image, mask and strength, if their flags are set."""
    from ernie_vilg_jax.images import open_image

    given: dict[str, Any] = {}
    for name, flag in (("image", IMAGE), ("mask", MASK)):
        if flag.value is None:
            continue
        try:
            given[name] = open_image(local(flag.value, name))
        except ValueError as error:
            raise UserError(f"--{name}={flag.value} cannot be read: {error}; give a PNG or JPEG file") from error
    for name, flag in (("mask", MASK), ("strength", STRENGTH)):
        if flag.value is not None and IMAGE.value is None:
            raise UserError(f"--{name} is for a picture to begin from; give one with --image=FILE")
    return given if STRENGTH.value is None else {**given, "strength": STRENGTH.value}


class ProgressLine:
    """One line on a terminal, overwritten after each step: progress, expert, speed, time left."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.first: tuple[int, float] | None = None

    def __call__(self, progress: Any) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = progress.step, now  # it compiled, so it is not timed
        done, seconds = progress.step - self.first[0], now - self.first[1]
        line = f"step {progress.step}/{progress.steps}  t={progress.timestep}  expert {progress.stage}"
        if done and seconds:
            line += f"  {done / seconds:.1f} steps/s  {(progress.steps - progress.step) * seconds / done:.0f} s left"
        self.stream.write(f"\r{line:<70}" if progress.step < progress.steps else f"\r{'':<70}\r")
        self.stream.flush()


def run() -> None:
    """Console entry point."""
    cli.run(main)


if __name__ == "__main__":
    run()
