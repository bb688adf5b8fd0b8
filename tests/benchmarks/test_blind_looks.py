import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.blind import letter, look_of
from ernie_vilg_jax.evaluation.prompt_sets import EACH
from ernie_vilg_jax.preparation.sources.composed.vocabulary import LOOKS
from tests.benchmarks.running import run


@pytest.mark.proofs
def test_looks_are_hidden_and_counted(tmp_path: Path) -> None:
    """This rater knows the images by the key, takes every real one for noto, and errs in one of the others."""
    images, raters, key = tmp_path / "images", tmp_path / "raters", tmp_path / "secret" / "key.json"
    images.mkdir()
    for number in range(EACH):
        Image.new("RGB", (8, 8)).save(images / f"style_{number:02d}_0.png")
    run("blind_looks", f"--images={images}", f"--write={raters}", f"--key={key}")
    assert {"answers.csv", "looks.png", "sheet_01.png"} <= {file.name for file in raters.iterdir()}
    assert (raters / "answers.csv").read_text().splitlines()[0] == "number,look"
    truth = [text.split() for text in json.loads(key.read_text())["prompts"]]
    real = len(truth) - EACH
    assert [kind for kind, _ in truth].count("real") == real == 3 * len(LOOKS)
    answers = [letter(LOOKS, look) if kind == "made" else letter(LOOKS, "noto") for kind, look in truth]
    wrong = [kind for kind, _ in truth].index("made")
    answers[wrong] = next(letter(LOOKS, look) for look in LOOKS if look != truth[wrong][1])
    (tmp_path / "a.csv").write_text("".join(f"{number},{one}\n" for number, one in enumerate(answers, start=1)))
    told = run("blind_looks", f"--key={key}", f"--answers={tmp_path / 'a.csv'}").splitlines()
    assert [line.split(": ")[1].split(" right")[0] for line in told] == [
        *[f"{EACH - 1} of {EACH}"] * 2,
        *[f"3 of {real}"] * 2,
    ]


def test_a_prompt_ends_with_its_look() -> None:
    prompts = {
        "a green bird, Twitter style": "twemoji",
        "一面鼓，谷歌风格": "noto",
        "a jack-o'-lantern, 3D style": "fluent-emoji-3d",
    }
    assert {prompt: look_of(prompt) for prompt in prompts} == prompts
