r"""How many images show their prompts, by people who do not know which image is whose.

    python -m ernie_vilg_jax.evaluate --checkpoint=demo --prompts=free --metrics=alignment --output=scores
    python -m benchmarks.blind_prompts --images=scores/images --write=raters --key=secret/key.json
    (each rater fills in a copy of raters/answers.csv and commits it; only then is the key opened)
    python -m benchmarks.blind_prompts --key=secret/key.json --answers=answers_a.csv,answers_b.csv

The sheets show numbered images in a seeded shuffle; prompts.txt has all prompts, with letters. A line of the answers
is a number and the letters of all prompts that the image shows rightly, such as "7,BF", or "7," for none. An image is
right if its own prompt is among them.
"""

import json
from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image

from benchmarks.blind import letter, read, tell
from ernie_vilg_jax.evaluation.binding.blind import write_sheets
from ernie_vilg_jax.evaluation.prompt_sets import FREE, prompt_set

_IMAGES = flags.DEFINE_string("images", None, "Folder of the images, named as `evaluate` names them.")
_WRITE = flags.DEFINE_string("write", None, "Folder for the raters: sheets, prompts.txt and answers.csv.")
_KEY = flags.DEFINE_string("key", None, "JSON file with the order and the prompts.", required=True)
_ANSWERS = flags.DEFINE_list("answers", [], "Filled-in answers.csv of one or more raters.")
_SEED = flags.DEFINE_integer("seed", 1, "Of the shuffle.")


def main(argv: list[str]) -> None:
    del argv
    key = Path(_KEY.value)
    if bool(_WRITE.value and _IMAGES.value) == bool(_ANSWERS.value):
        raise app.UsageError("give --write=FOLDER --images=FOLDER, or --answers=FILE,FILE")
    if _WRITE.value and _IMAGES.value:
        prompts, folder = prompt_set("free", None), Path(_WRITE.value)
        found = [next(Path(_IMAGES.value).rglob(f"{prompt.id}_0.png")) for prompt in prompts]
        images = [np.asarray(Image.open(file).convert("RGB")) for file in found]
        write_sheets(images, [prompt.text for prompt in prompts], _SEED.value, folder, key, columns=["prompts"])
        (folder / "prompts.txt").write_text(
            "".join(f"{letter(FREE, text)} {text}\n" for text in FREE), encoding="utf-8"
        )
        return
    truth = json.loads(key.read_text())["prompts"]
    raters = [read(Path(file)) for file in _ANSWERS.value]
    for file, answers in zip(_ANSWERS.value, raters, strict=True):
        tell(file, right(answers, truth))
    tell("all raters", list(map(all, zip(*(right(answers, truth) for answers in raters), strict=True))))
    for text in FREE:
        mine = [k for k, prompt in enumerate(truth) if prompt == text]
        counts = ", ".join(str(sum(right(answers, truth)[k] for k in mine)) for answers in raters)
        print(f"  {text}: {counts} of {len(mine)}")


def right(answers: list[str], truth: list[str]) -> list[bool]:
    return [letter(FREE, prompt) in answer for prompt, answer in zip(truth, answers, strict=True)]


if __name__ == "__main__":
    app.run(main)
