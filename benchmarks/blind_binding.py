r"""The binding checker against people, on samples of a checkpoint.

    python -m benchmarks.blind_binding --write=raters --key=secret/key.json          # samples, sheets, key
    (each rater fills in a copy of raters/answers.csv and commits it; only then is the key opened)
    python -m benchmarks.blind_binding --key=secret/key.json --answers=answers_a.csv,answers_b.csv

The samples are of prompts drawn from the set "demo" of `evaluate`; they are kept beside the key. The sheets show
numbers only, in a seeded shuffle; names.txt has the names that answers may use. The second form prints, for each rater
and kind of fact, how often rater and checker agree and how often each says true; and the same for the two raters.
What a line of the answers looks like: ernie_vilg_jax/evaluation/binding/blind.py.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from PIL import Image

import ernie_vilg_jax
from ernie_vilg_jax.evaluation.binding.blind import Agreement, Answer, compare, read_answers, write_sheets
from ernie_vilg_jax.evaluation.binding.drawn import WEIGHTS, DrawnChecker
from ernie_vilg_jax.evaluation.binding.facts import Fact
from ernie_vilg_jax.evaluation.binding.grammar import understood
from ernie_vilg_jax.evaluation.binding.judging import Judgement, Verdict
from ernie_vilg_jax.evaluation.prompt_sets import prompt_set

_WRITE = flags.DEFINE_string("write", None, "Folder for the raters: sheets and answers.csv.")
_KEY = flags.DEFINE_string("key", None, "JSON file with order and prompts; the samples go beside it.", required=True)
_ANSWERS = flags.DEFINE_list("answers", [], "One or two filled-in answers.csv, to compare with the checker.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "What is sampled. (default: the demo)")
_WEIGHTS = flags.DEFINE_string("weights", str(WEIGHTS), "The checker.")
_COUNT = flags.DEFINE_integer("count", 200, "Samples.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 1, "Of prompts, samples and shuffle.")


def main(argv: list[str]) -> None:
    del argv
    checker, key = DrawnChecker(_WEIGHTS.value), Path(_KEY.value)
    if bool(_WRITE.value) == bool(_ANSWERS.value):
        raise app.UsageError("give --write=FOLDER or --answers=FILE,FILE")
    if _WRITE.value:
        pipe = ernie_vilg_jax.load(_CHECKPOINT.value) if _CHECKPOINT.value else ernie_vilg_jax.load()
        known = prompt_set("demo", pipe.config)
        drawn = np.random.default_rng(_SEED.value).permutation(len(known))[: _COUNT.value]
        prompts = [known[place].text for place in drawn]
        images = [np.asarray(image) for image in pipe(prompts, seed=_SEED.value, num_images=1)]
        write_sheets(images, prompts, _SEED.value, Path(_WRITE.value), key)
        order = json.loads(key.read_text())["order"]
        for number, place in enumerate(order):
            Image.fromarray(images[place]).save(key.parent / f"{number + 1:04d}.png")
        names = [f"{noun.en} {noun.zh}\n" for noun in checker.nouns]
        (Path(_WRITE.value) / "names.txt").write_text("".join(names), encoding="utf-8")
        logging.info("%d samples; give %s to the raters", len(images), _WRITE.value)
        return
    every = [understood(prompt, checker.nouns) for prompt in json.loads(key.read_text())["prompts"]]
    places = [k for k, several in enumerate(every) if several]
    facts = [every[k] for k in places]
    images = [np.asarray(Image.open(key.parent / f"{k + 1:04d}.png").convert("RGB")) for k in places]
    judgements = checker.check(images, facts)
    answered = [read_answers(Path(file), checker.nouns) for file in _ANSWERS.value]
    raters = [[answers[k] for k in places] for answers in answered]
    for file, answers in zip(_ANSWERS.value, raters, strict=True):
        report(f"checker and {file}", compare(answers, judgements, facts))
    if len(raters) == 2:
        first = [as_judgement(answer, several) for answer, several in zip(raters[0], facts, strict=True)]
        report("the two raters", compare(raters[1], first, facts))


def as_judgement(answer: Answer, facts: Sequence[Fact]) -> Judgement:
    """A rater's answer in the form of a checker's."""
    return Judgement(tuple(Verdict(fact, float(answer.says(fact))) for fact in facts), ())


def report(who: str, found: Mapping[str, Agreement]) -> None:
    """One line for each kind of fact."""
    print(who)
    for kind, one in found.items():
        print(
            f"  {kind:9} agree {100 * one.agree / one.count:5.1f} % of {one.count:4}; "
            f"true by the first {one.checker_true}, by the second {one.rater_true}"
        )


if __name__ == "__main__":
    app.run(main)
