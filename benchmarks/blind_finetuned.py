r"""Can people tell what a fine-tuned model's images of the user's things show?

    python -m benchmarks.blind_finetuned --run=runs/mine --write=raters --key=secret/key.json
    (each rater fills in a copy of raters/answers.csv; only then is the key opened)
    python -m benchmarks.blind_finetuned --key=secret/key.json --answers=answers_a.csv,answers_b.csv

The images are of captions that were trained on, each once, from the same noise: half of them by the model before, half
by runs/mine/best. The sheets show numbers only, in a seeded shuffle of both. `things.txt` lists the captions; a rater
writes the one that an image shows into the column `thing`, or ? if none can be told. The second form prints, for each
rater, how many were told right of each model.
"""

import csv
import json
from pathlib import Path

import numpy as np
from absl import app, flags, logging

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.binding.blind import write_sheets
from ernie_vilg_jax.finetuning.origin import Origin
from ernie_vilg_jax.finetuning.run import own_records
from ernie_vilg_jax.pipeline import load

_RUN = flags.DEFINE_string("run", None, "The --output of `finetune`.")
_FROM = flags.DEFINE_string("from", "demo", "The model that it started from.")
_LANGUAGE = flags.DEFINE_enum("language", "en", ["en", "zh"], "Of the captions.")
_WRITE = flags.DEFINE_string("write", None, "Folder for the raters: sheets, things.txt and answers.csv.")
_KEY = flags.DEFINE_string("key", None, "JSON file with order and captions.")
_ANSWERS = flags.DEFINE_list("answers", [], "Filled-in answers.csv.")
_SEED = flags.DEFINE_integer("seed", 1, "Of samples and shuffle.")


def main(argv: list[str]) -> None:
    del argv
    if not _KEY.value or bool(_WRITE.value) == bool(_ANSWERS.value) or (_WRITE.value and not _RUN.value):
        raise app.UsageError("give --key=FILE, and --run=FOLDER --write=FOLDER or --answers=FILE,FILE")
    if not _WRITE.value:
        for file in _ANSWERS.value:
            counts = told(file, _KEY.value).items()
            print(f"{file}: {', '.join(f'{who} {right} of {n} told' for who, (right, n) in counts)}")
        return
    run, origin = Path(_RUN.value or ""), Origin.of(flags.FLAGS["from"].value or "")
    captions = captions_of(run, _LANGUAGE.value)
    images = [
        np.asarray(image)
        for path in (origin.path, run / "best")
        for image in load(path)(captions, seed=_SEED.value, num_images=1)
    ]
    write(images, captions, Path(_WRITE.value), Path(_KEY.value), _SEED.value)
    logging.info("%d images of %d captions; give %s to the raters", len(images), len(captions), _WRITE.value)


def captions_of(run: Path, language: str) -> list[str]:
    """A caption of each image that was trained on, each once."""
    data = next(folder for name in ("annotated", "data") if (folder := run / name).is_dir())
    return list(dict.fromkeys(one.captions[language][0] for one in own_records(data) if one.captions.get(language)))


def write(images: list[np.ndarray], captions: list[str], folder: Path, key: Path, seed: int) -> None:
    """Sheets and `things.txt` for the raters.

    Args:
      images: uint8 [H, W, 3]: of all captions by the model before, then of all by the one after.
    """
    write_sheets(images, [*captions, *captions], seed, folder, key, columns=["thing"])
    (folder / "things.txt").write_text("".join(f"{text}\n" for text in sorted(captions)), encoding="utf-8")


def told(answers: str, key: str) -> dict[str, tuple[int, int]]:
    """{"before": (told right, of how many), "after": ...} of a rater's answers.

    Raises UserError, with the line, for an answer that is none of the captions, nor ?.
    """
    found = json.loads(Path(key).read_text(encoding="utf-8"))
    prompts, order = found["prompts"], found["order"]
    with open(answers, encoding="utf-8-sig", newline="") as file:
        given = {row[0]: row[1].strip() for row in csv.reader(file) if len(row) > 1}
    counts = {"before": [0, 0], "after": [0, 0]}
    for number, (prompt, place) in enumerate(zip(prompts, order, strict=True), 1):
        answer = given.get(str(number), "")
        if answer not in {*prompts, "?"}:
            raise UserError(f"{answers}: {answer!r} for {number} is no line of things.txt, nor ?")
        count = counts["before" if place < len(order) // 2 else "after"]
        count[0] += answer == prompt
        count[1] += 1
    return {who: (right, n) for who, (right, n) in counts.items()}


if __name__ == "__main__":
    app.run(main)
