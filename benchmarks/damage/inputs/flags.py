"""Flags of `sample`, right and wrong, with the model in the package."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from benchmarks.damage.inputs.kinds import Input, Trial, encoded, png, write
from benchmarks.damage.inputs.made_pictures import deep, grey, palette_alpha, profiled, rgba, turned

FAMILY = "flags"
QUICK = ("--steps=1", "--sampler=ddim")


def sample(out: Path, *flags: str) -> list[str]:
    return ["ernie_vilg_jax.sample", f"--output={out / 'images'}", *flags]


def wrong(
    name: str, *flags: str, says: str, files: Callable[[Random], dict[str, bytes | str]] = lambda rng: {}
) -> Input:
    """Flags to be refused; `{}` in them is the folder of the files."""

    def make(folder: Path, out: Path, rng: Random) -> Trial:
        write(folder, files(rng))
        line = sample(out, *(() if any(f.startswith("--prompt") for f in flags) else ("--prompt=一只猫",)))
        return Trial([*line, *(flag.replace("{}", str(folder)) for flag in flags)], says=(says,))

    return Input(FAMILY, name, make)


def prompted(name: str, prompt: str) -> Input:
    """A prompt that has to be in its image's metadata, and the image not empty."""

    def make(folder: Path, out: Path, rng: Random) -> Trial:
        def check(out: Path) -> str:
            with Image.open(out / "images/000.png") as image:
                image.load()
                text = getattr(image, "text", {})
                if text.get("prompt") != prompt or text.get("steps") != "1" or text.get("seed") != "7":
                    return f"the metadata are {ascii(text)[:200]}"
                return "" if np.asarray(image).std() > 1 and image.size == (64, 64) else "an image of one colour"

        return Trial(sample(out, f"--prompt={prompt}", "--seed=7", *QUICK), check)

    return Input(FAMILY, name, make)


def begins_with(name: str, make_image: Callable[[Random], tuple[bytes, np.ndarray]]) -> Input:
    """An image to begin from: the result has to be that of the plain image that a viewer shows."""

    def make(folder: Path, out: Path, rng: Random) -> Trial:
        content, pixels = make_image(rng)
        write(folder, {"given.png": content})

        def check(out: Path) -> str:
            from ernie_vilg_jax.pipeline import load

            (wanted,) = load().image_to_image("一只猫", Image.fromarray(pixels.astype(np.uint8)), strength=0.5, steps=4)
            with Image.open(out / "images/000.png") as image:
                difference = np.abs(np.asarray(image).astype(int) - np.asarray(wanted)).max()
            return f"a colour differs by {difference} of 255" if difference > 8 else ""

        how = ("--steps=4", "--strength=0.5")
        return Trial(sample(out, "--prompt=一只猫", f"--image={folder / 'given.png'}", *how), check)

    return Input(FAMILY, name, make)


def bright(rng: Random) -> np.ndarray:
    return np.full((64, 64, 3), 200, np.uint8)


def deep_grey(rng: Random) -> tuple[bytes, np.ndarray]:
    values = grey(rng)
    return deep(values.astype(np.uint16)[..., None] * 257, 0), np.stack([values] * 3, -1)


INPUTS = (
    prompted("prompt: emoji and hanzi", "🐼 一只熊猫"),
    prompted("prompt: special tokens", "[SEP] [n] <s> a cat"),
    prompted("prompt: 3,000 characters", "a very " + "very " * 600 + "red cat"),
    prompted("prompt: line ends and marks", "a\u2028cat\x85and\na dog\u200f"),
    begins_with("image: 16 bits", deep_grey),
    begins_with("image: transparent", rgba("PNG")),
    begins_with("image: turned", turned(6, "PNG")),
    begins_with("image: of a palette with alpha", palette_alpha),
    begins_with("image: of a wide colour space", profiled("PNG")),
    *(
        wrong(flag, flag, says=says)
        for flag, says in {
            "--steps=0": "--steps",
            "--steps=1.5": "--steps",
            "--steps=many": "--steps",
            "--steps=100000": "--steps",
            "--step=5": "step",
            "--sampler=magic": "--sampler",
            "--sampler=": "--sampler",
            "--grid=round": "--grid",
            "--eta=2": "--eta",
            "--guidance_scale=nan": "--guidance_scale",
            "--guidance_scale=-1": "--guidance_scale",
            "--guidance_interval=1": "--guidance_interval",
            "--guidance_interval=900,100": "--guidance_interval",
            "--guidance_interval=a,b": "--guidance_interval",
            "--stage_scales=1,2": "--stage_scales",
            "--stage_scales=1,,2": "--stage_scales",
            "--dynamic_threshold=200": "--dynamic_threshold",
            "--num_images=0": "--num_images",
            "--num_images=100000": "num_images",
            "--seed=x": "--seed",
            "--mode=fast": "mode",
            "--mesh=expert": "--mesh",
            "--mask=x.png": "--mask",
            "--strength=0.5": "--strength",
            "--checkpoint=nowhere": "nowhere",
            "--checkpoint=gs:/typo": "gs:/typo",
            "--output=gs://bucket/x": "--output",
            "--output=/proc/x": "--output",
            "--prompt=": "prompt",
            "a cat": "a",
        }.items()
    ),
    wrong("--order of unipc", "--sampler=unipc", "--order=9", says="--order"),
    wrong("--eta of a sampler without it", "--sampler=euler", "--eta=0.5", says="eta"),
    wrong("two negative prompts of one", "--negative_prompt=b", "--negative_prompt=c", says="--negative_prompt"),
    wrong("prompt with half of a character", "--prompt=a \udcff cat", says="prompt"),
    wrong("image that is text", "--image={}/a.png", says="--image", files=lambda rng: {"a.png": "no image"}),
    wrong("image that is cut off", "--image={}/a.png", says="--image", files=lambda rng: {"a.png": png(rng)[:70]}),
    wrong("image that is a folder", "--image={}", says="--image"),
    wrong(
        "mask of another size",
        "--image={}/a.png",
        "--mask={}/b.png",
        says="--mask",
        files=lambda rng: {"a.png": encoded(bright(rng)), "b.png": encoded(bright(rng)[:32])},
    ),
    wrong(
        "mask without white",
        "--image={}/a.png",
        "--mask={}/b.png",
        says="--mask",
        files=lambda rng: {"a.png": encoded(bright(rng)), "b.png": encoded(bright(rng) * 0)},
    ),
    wrong("output that is a file", "--output={}/a.png", says="--output", files=lambda rng: {"a.png": png(rng)}),
)
