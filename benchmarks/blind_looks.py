r"""Which look people see in images whose prompts name one: the category "style" of the prompt set `composed`.

    python -m ernie_vilg_jax.evaluate --checkpoint=demo --prompts=composed --metrics=alignment --output=composed
    python -m benchmarks.blind_looks --images=composed/images --write=raters --key=secret/key.json
    (each rater fills in a copy of raters/answers.csv and commits it; only then is the key opened)
    python -m benchmarks.blind_looks --key=secret/key.json --answers=answers_a.csv,answers_b.csv

looks.png shows a few things in every look, with its letter. A line of the answers is a number and one letter, the look
that the image has most of. Scenes of the data in each look, at the model's 64 x 64 pixels, are shuffled among the
images: how many of them a rater knows is as many as a model could have.
"""

import itertools
import json
import random
from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image

from benchmarks.blind import letter, look_of, read, tell
from ernie_vilg_jax.evaluation.binding.blind import write_sheets
from ernie_vilg_jax.evaluation.prompt_sets import prompt_set
from ernie_vilg_jax.grid import labelled_grid, save_png
from ernie_vilg_jax.preparation.sources.composed.painting import paint
from ernie_vilg_jax.preparation.sources.composed.plans import Part, Plan
from ernie_vilg_jax.preparation.sources.composed.source import ComposedSource
from ernie_vilg_jax.preparation.sources.composed.vocabulary import ART, LOOKS

_IMAGES = flags.DEFINE_string("images", None, "Folder of the images, named as `evaluate` names them.")
_WRITE = flags.DEFINE_string("write", None, "Folder for the raters: sheets, looks.png and answers.csv.")
_KEY = flags.DEFINE_string("key", None, "JSON file with the order and the looks.", required=True)
_ANSWERS = flags.DEFINE_list("answers", [], "Filled-in answers.csv of one or more raters.")
_SEED = flags.DEFINE_integer("seed", 1, "Of the shuffle.")
SHOWN = ("cat", "car", "house", "guitar")
REAL = 3
"""Scenes of the data in each look."""
SIDE = 64


def main(argv: list[str]) -> None:
    del argv
    if bool(_WRITE.value and _IMAGES.value) == bool(_ANSWERS.value):
        raise app.UsageError("give --write=FOLDER --images=FOLDER, or --answers=FILE,FILE")
    if _WRITE.value and _IMAGES.value:
        write(Path(_IMAGES.value), Path(_WRITE.value), Path(_KEY.value))
        return
    truth = [key.split() for key in json.loads(Path(_KEY.value).read_text())["prompts"]]
    raters = {file: read(Path(file)) for file in _ANSWERS.value}
    for kind in ("made", "real"):
        places = [place for place, (mine, _) in enumerate(truth) if mine == kind]
        right = {file: [answers[k] == letter(LOOKS, truth[k][1]) for k in places] for file, answers in raters.items()}
        for file, found in right.items():
            tell(f"{kind}, {file}", found)
        tell(f"{kind}, all raters", list(map(all, zip(*right.values(), strict=True))))


def write(images: Path, folder: Path, key: Path) -> None:
    """The images of prompts that name a look, and scenes of the data, as sheets."""
    made = [(prompt, look_of(prompt.text)) for prompt in prompt_set("composed", None) if prompt.category == "style"]
    shown = [np.asarray(Image.open(next(images.rglob(f"{prompt.id}_0.png"))).convert("RGB")) for prompt, _ in made]
    looks = [f"made {look}" for _, look in made]
    source, left = ComposedSource(size=SIDE, seed=99), dict.fromkeys(LOOKS, REAL)
    for index in itertools.count():
        if not any(left.values()):
            break
        plan = source.plan(index)
        if plan.kind == "single" and left[plan.look] and not plan.parts[0].trait:
            left[plan.look] -= 1
            shown.append(np.asarray(paint(plan, SIDE, random.Random(index))[0].convert("RGB")))
            looks.append(f"real {plan.look}")
    write_sheets(shown, looks, _SEED.value, folder, key, columns=["look"])
    examples = [
        paint(Plan("single", (Part(thing, places=((0.1, 0.1, 0.8),)),), "", look, _art(look), "white"), SIDE, draw)[0]
        for draw in [random.Random(0)]
        for look in LOOKS
        for thing in SHOWN
    ]
    labels = [f"{letter(LOOKS, look)} {LOOKS[look].en_styles[0]}" for look in LOOKS for _ in SHOWN]
    save_png(labelled_grid(examples, labels, columns=len(SHOWN)), folder / "looks.png")


def _art(look: str) -> str:
    return look if look in ART else ART[0]


if __name__ == "__main__":
    app.run(main)
