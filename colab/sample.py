# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Pictures from Chinese and English
#
# Samples from the small demo model that comes with `ernie_vilg_jax`, an implementation of ERNIE-ViLG 2.0 ([arXiv
# 2210.15257](https://arxiv.org/abs/2210.15257)) in JAX. Choose *Runtime → Run all*; a CPU is enough, and nothing is
# downloaded but Python packages.
#
# The model draws 216 things and 12 shapes, 64 x 64 pixels. It demonstrates the code, not what the full model
# can do.

# %%
# @title Install { display-mode: "form" }
# @markdown The address of the repository (`https://…`), or a folder with a clone of it. May stay empty where the
# @markdown package is installed, or where this notebook lies in a clone.
REPOSITORY = ""  # @param {type:"string"}

import importlib.util
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.version import Version


def has(package: str, least: str = "0") -> bool:
    try:
        return Version(metadata.version(package)) >= Version(least)
    except metadata.PackageNotFoundError:
        return False


if not (has("ernie_vilg_jax") and has("jax", "0.10.2")):
    clones = [path for path in (Path(REPOSITORY or "."), Path("..")) if (path / "constraints.txt").exists()]
    if not (clones or REPOSITORY):
        raise SystemExit("Write the address of the repository into the form above, and run this cell again.")
    on_tpu = importlib.util.find_spec("libtpu") is not None or Path("/dev/accel0").exists()
    extra = "[cuda]" if shutil.which("nvidia-smi") else "[tpu]" if on_tpu else ""
    what = f"{clones[0].resolve()}{extra}" if clones else f"ernie_vilg_jax{extra} @ git+{REPOSITORY}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", what], check=True)
    importlib.invalidate_caches()
    loaded = [name for name in ("jax", "flax", "numpy") if name in sys.modules]
    if any(sys.modules[name].__version__ != metadata.version(name) for name in loaded):
        raise SystemExit("An older jax or numpy was loaded before: choose Runtime → Restart session, then run all.")

# %%
import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import ernie_vilg_jax
from ernie_vilg_jax.grid import BUNDLED_FONT, labelled_grid, save_png
from ernie_vilg_jax.preparation.sources.styles import STYLES

print(f"ernie_vilg_jax {ernie_vilg_jax.__version__}, jax {jax.__version__} on {jax.devices()[0].device_kind}")
pipe = ernie_vilg_jax.load()

# %% [markdown]
# ## What to paint
#
# Prompts may be Chinese or English, with `;` between them. A style is more words at the end of the prompt: those
# that the captions in training had. The same seed gives the same pictures. Guidance says how strictly they follow
# the words: 1 is the plain model, more is stricter and less varied.

# %% tags=["parameters"]
PROMPTS = "一只熊猫; a red apple; 一座城堡; a slice of pizza"  # @param {type:"string"}
STYLE = "any"  # @param ["any", "flat style", "3D style", "Google style", "Twitter style"]
PICTURES = 2  # @param {type:"slider", min:1, max:4, step:1}
SEED = 0  # @param {type:"integer"}
STEPS = 50  # @param {type:"slider", min:1, max:200, step:1}
GUIDANCE = 3.0  # @param {type:"slider", min:1, max:10, step:0.5}
# @markdown How many of the steps to look at on the way:
PREVIEWS = 7  # @param {type:"slider", min:2, max:12, step:1}
# @markdown Where does the model look for this word of this prompt?
ATTENTION_PROMPT = "a yellow star above a green triangle"  # @param {type:"string"}
WORD = "star"  # @param {type:"string"}

# %%
prompts = [prompt.strip() for prompt in PROMPTS.replace("；", ";").split(";") if prompt.strip()]
if STYLE != "any":
    in_chinese = {style.en: style.zh for style in STYLES.values()}
    is_chinese = [any("\u4e00" <= character <= "\u9fff" for character in prompt) for prompt in prompts]
    prompts = [
        f"{prompt}，{in_chinese[STYLE]}" if chinese else f"{prompt}, {STYLE}"
        for prompt, chinese in zip(prompts, is_chinese, strict=True)
    ]

looked_at = set(np.linspace(1, STEPS, min(PREVIEWS, STEPS)).round().astype(int).tolist())
steps, previews = [], {}


def watch(progress):
    steps.append(progress)
    if progress.step in looked_at:
        previews[progress.step] = progress.images()


images = pipe(prompts, num_images=PICTURES, seed=SEED, steps=STEPS, guidance_scale=GUIDANCE, on_step=watch)
labelled_grid(images, [prompt for prompt in prompts for _ in range(PICTURES)], columns=2 * PICTURES)

# %% [markdown]
# The first call compiles, which takes a while. Run the two cells above again with other words, another seed or other
# guidance, and it does not: only another number of pictures compiles again.
#
# ## How they came about
#
# Sampling starts with noise and takes a little of it away at each step. This is what the model takes each picture to
# be after some of the steps: colours and outlines come early, details late.

# %%
shown = [(prompt, number * PICTURES) for number, prompt in enumerate(prompts)][:4]
labelled_grid(
    [previews[step][number] for _, number in shown for step in sorted(previews)],
    [f"step {step}" for _ in shown for step in sorted(previews)],
    columns=len(previews),
    cell=96,
)

# %% [markdown]
# ## Which expert worked when
#
# Each stage of the timesteps has a denoising expert of its own, a whole U-Net: the last one begins with pure noise,
# and expert 0 ends with the details. They take turns, so that more experts cost memory, not time.


# %%
def chart_of_experts(steps, stages):
    """Steps from left to right, one row for each expert, filled where it worked."""
    width, height, left = max(3, 560 // len(steps)), 30, 190
    sheet = Image.new("RGB", (left + width * len(steps) + 10, height * (stages.n + 1)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.truetype(str(BUNDLED_FONT), 14)
    for row, expert in enumerate(reversed(range(stages.n))):
        top = row * height + 4
        draw.text((10, top), f"expert {expert}, t = {stages.ends[expert] - 1} … {stages.starts[expert]}", "black", font)
        for column, step in enumerate(steps):
            colour = f"hsl({360 * expert // stages.n}, 60%, 50%)" if step.stage == expert else "#eeeeee"
            start = left + column * width
            draw.rectangle((start, top, start + width - 2, top + height - 8), fill=colour)
    draw.text((left, height * stages.n + 4), f"step 1 … {len(steps)}", "black", font)
    return sheet


chart_of_experts(steps[:STEPS], pipe.stages)

# %% [markdown]
# ## Where the model looks for a word
#
# At each step every position of the picture divides its attention among the words. The picture is dark where the word
# gets least and as it is where it gets most, over all steps and for each expert in the order of their work. In a model
# this small it is not always most where the thing is.

# %%
maps = pipe.attention_maps(ATTENTION_PROMPT, WORD, seed=SEED, steps=STEPS, guidance_scale=GUIDANCE)
worked = sorted(set(maps.stages.tolist()), reverse=True)
labelled_grid(
    [maps.image, maps.overlay(), *(maps.overlay(stage) for stage in worked)],
    [ATTENTION_PROMPT, f"{WORD}, all steps", *(f"{WORD}, expert {stage}" for stage in worked)],
    columns=3,
)

# %% [markdown]
# ## Keep them
#
# Each PNG says how it was made: prompt, seed, steps, sampler and guidance are in its metadata.

# %%
for number, image in enumerate(images):
    save_png(image, Path("pictures", f"{number:02d}.png"), image.info)
print(f"{len(images)} pictures are in {Path('pictures').resolve()}")
