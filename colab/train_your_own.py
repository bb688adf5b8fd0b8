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
# # Teach it your own pictures
#
# From a folder of pictures with captions to a model that paints them: prepare, annotate, fine-tune from the demo
# checkpoint, sample. The example folder is drawn here, so that everything runs as it is (*Runtime → Run all*); put
# your own in its place afterwards. The model is small, 64 x 64 pixels, and so is what it can learn.

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

# %% [markdown]
# ## Settings
#
# `FOLDER` is your folder, or empty for the example. The pictures seen in training are `STEPS` x `BATCH`.

# %% tags=["parameters"]
FOLDER = ""  # @param {type:"string"}
WORK = "my_model"  # @param {type:"string"}
PROMPTS = "a red monster; 一个蓝色的怪物; a purple monster; 一个绿色的怪物"  # @param {type:"string"}
METHOD = "full"  # @param ["full", "lora"]
STEPS = 300  # @param {type:"integer"}
BATCH = 32  # @param {type:"integer"}
SAMPLE_STEPS = 30  # @param {type:"integer"}

# %%
import json
import random

import jax
from absl import logging
from PIL import Image, ImageDraw

import ernie_vilg_jax
from ernie_vilg_jax.finetuning import old
from ernie_vilg_jax.finetuning.judge import read_note
from ernie_vilg_jax.finetuning.origin import Origin
from ernie_vilg_jax.finetuning.run import outcome, own_records, prepare_data, tell_words, tune
from ernie_vilg_jax.finetuning.settings import Settings
from ernie_vilg_jax.grid import labelled_grid

# What the project itself reports, and nothing of the libraries' chatter.
logging.use_absl_handler()
logging.set_verbosity(logging.INFO)
logging.get_absl_handler().addFilter(lambda record: "ernie_vilg_jax" in record.pathname)

work = Path(WORK)
print(f"ernie_vilg_jax {ernie_vilg_jax.__version__}, jax {jax.__version__} on {jax.devices()[0].device_kind}")

# %% [markdown]
# ## A folder of pictures
#
# All that is needed is pictures and a file of captions, Chinese, English or both. Boxes of objects are optional: with
# them, training can give the objects more weight.

# %%
COLOURS = {
    **{"red": ("红色", "#d92626"), "blue": ("蓝色", "#2654d9"), "green": ("绿色", "#26a641")},
    **{"yellow": ("黄色", "#f0c419"), "purple": ("紫色", "#8e3fd1"), "orange": ("橙色", "#f28c1b")},
    **{"pink": ("粉色", "#f28cc0"), "black": ("黑色", "#2b2b2b")},
}


def draw_monster(colour, rng):
    """A monster [128 x 128] somewhere near the middle, and its box [x0, y0, x1, y1] from 0 to 1."""
    image = Image.new("RGB", (128, 128), "white")
    draw, wide, high = ImageDraw.Draw(image), rng.randint(60, 84), rng.randint(80, 100)
    left, top = 64 - wide // 2 + rng.randint(-8, 8), 64 - high // 2 + rng.randint(-6, 6)
    right, bottom, foot = left + wide, top + high, wide // 3
    draw.pieslice((left, top, right, top + wide), 180, 360, fill=colour)
    draw.rectangle((left, top + wide // 2, right, bottom - foot // 2), fill=colour)
    for start in range(left, left + 3 * foot, foot):
        draw.ellipse((start, bottom - foot, start + foot, bottom), fill=colour)
    for eye in (left + wide // 3, right - wide // 3):
        draw.ellipse((eye - 9, top + wide // 2 - 12, eye + 9, top + wide // 2 + 12), fill="white")
        draw.ellipse((eye - 4, top + wide // 2 - 3, eye + 4, top + wide // 2 + 9), fill="black")
    return image, [side / 128 for side in (left, top, right, bottom)]


folder = Path(FOLDER or work / "monsters")
if not FOLDER:
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = random.Random(0), []
    for english, (chinese, colour) in COLOURS.items():
        for number in range(8):
            image, box = draw_monster(colour, rng)
            image.save(folder / f"{english}_{number}.png")
            monster = {"name": {"zh": "怪物", "en": "monster"}, "box": box, "score": 1.0}
            captions = {"zh": f"一个{chinese}的怪物", "en": f"a {english} monster"}
            rows.append({"file": f"{english}_{number}.png", **captions, "objects": [monster]})
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines[::16]))

# %% [markdown]
# ## Prepare and annotate
#
# Training reads sharded records. The model to start from knows the words of its own tokenizer, so that goes on to be
# used. Part of the concepts (a concept is a caption, unless a line of the file names one) is held out, to measure
# on. So that the model does not forget, it is shown its own images of old prompts again.
#
# `knowledge` is the paper's: a parser finds the key words of each caption, and objects are matched with the words that
# name them. In training, key words get more attention and objects more loss.

# %%
if not (has("rjieba") and has("textblob")):
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "rjieba", "textblob"], check=True)
    importlib.invalidate_caches()

origin = Origin.of("demo")
settings = Settings(method=METHOD, steps=STEPS, batch_size=BATCH, knowledge=True)
prompts_of_old = old.old_prompts(origin, None, judged=24, rehearsed=min(96, 8 * STEPS), seed=0)
rehearsed = old.rehearsal(origin, prompts_of_old.rehearsed, work / "old", seed=0)
data = prepare_data(origin, folder, work / "prepared", settings, rehearsed)

tell_words(origin, data)
record = own_records(data)[0]
for language, captions in record.captions.items():
    for caption, parsed in zip(captions, record.parsed[language], strict=True):
        words = [f"{caption[start:end]} ({kind})" for start, end, kind in parsed["words"]]
        print(f"{caption}: {', '.join(words)}")
Image.open(data / "preview.png")

# %% [markdown]
# ## Fine-tune
#
# All experts are trained from those of the demo: all their parameters, or with `METHOD = "lora"` small adapters.
# It is measured all the time on your held-out images and on old prompts; the best is kept. Run the cell again after an
# interruption, and it goes on from the last checkpoint. To start over, choose another `WORK`.

# %%
tune(origin, data, work / "run", settings, prompts_of_old)
outcome(work / "run")

# %%
seen = read_note(work / "run")


def curves(lines, width=520, height=200):
    """Values over steps, each line as shares of its first value: for each colour a line through (step, value)."""
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    last, most = max(seen), max(1.1, *(max(line) / line[0] for line in lines.values()))
    draw.line((40, 10, 40, height - 25, width - 20, height - 25), fill="black")
    for colour, line in lines.items():
        shares = zip(seen, (value / line[0] for value in line), strict=True)
        places = [
            (40 + (width - 60) * step / last, height - 25 - (height - 50) * share / most) for step, share in shares
        ]
        draw.line(places, fill=colour, width=2)
    draw.text((4, 18), f"{most:.2f}", "black")
    draw.text((width - 100, height - 20), f"step {last}", "black")
    return sheet


def losses(name):
    return [values[name] for values in seen.values()]


# Loss on your images (blue), on those held out (orange), on old ones (green), of the start as 1.
curves({"#2654d9": losses("seen"), "#f28c1b": losses("held_out"), "#26a641": losses("old")})

# %% [markdown]
# ## Sample
#
# The same prompts and the same noise, before and after.

# %%
demo, mine = ernie_vilg_jax.load(), ernie_vilg_jax.load(work / "run")
prompts = [prompt.strip() for prompt in PROMPTS.replace("；", ";").split(";") if prompt.strip()]
before, after = (pipe(prompts, seed=1, steps=SAMPLE_STEPS) for pipe in (demo, mine))
labelled_grid(
    [*before, *after],
    [*(f"{prompt}\nbefore" for prompt in prompts), *(f"{prompt}\nafter" for prompt in prompts)],
    columns=len(prompts),
)

# %% [markdown]
# ## Now your own
#
# 1. Put pictures (.png, .jpg, .webp) into a folder. On Colab: the folder symbol on the left, then upload; or keep
#    them on Drive (`from google.colab import drive; drive.mount("/content/drive")`), where they outlive the session.
#    Keep `WORK` there too, and the checkpoints do as well.
# 2. Say what they show, in a `captions.jsonl` beside them, one line a picture:
#    `{"file": "1.jpg", "zh": "一只灰色的猫", "en": "a grey cat"}`. One language is enough; a `captions.csv` or a
#    `1.txt` beside each `1.jpg` does as well. Leave `objects` out unless you have boxes.
# 3. Write the folder into `FOLDER`, another name into `WORK`, words from your captions into `PROMPTS`, and run all
#    cells.
#
# The example has 64 pictures. More `STEPS` follow them more closely. There must be two different captions at least,
# since one part is held out.
#
# The result is a run like any other: `ernie_vilg_jax.load("my_model/run/best")` is its best checkpoint. Outside of a
# notebook, `python -m ernie_vilg_jax.finetune` does all of this in one command.
