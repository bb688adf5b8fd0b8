import json
from pathlib import Path

from PIL import Image

from ernie_vilg_jax.evaluation.prompt_sets import FREE, prompt_set
from tests.benchmarks.running import run


def test_sheets_hide_the_prompts_and_answers_are_counted(tmp_path: Path) -> None:
    """Each image has the colour of its prompt's number, by which this rater knows it; one letter is wrong."""
    images, raters, key = tmp_path / "images", tmp_path / "raters", tmp_path / "secret" / "key.json"
    images.mkdir()
    for prompt in prompt_set("free", None):
        Image.new("RGB", (8, 8), (10 * FREE.index(prompt.text), 0, 0)).save(images / f"{prompt.id}_0.png")
    run("blind_prompts", f"--images={images}", f"--write={raters}", f"--key={key}")
    assert sorted(file.name for file in raters.iterdir()) == [
        *("answers.csv", "prompts.txt", "sheet_01.png", "sheet_02.png", "sheet_03.png")
    ]
    assert (raters / "prompts.txt").read_text().splitlines()[1] == "B a blue apple and a red banana"
    truth = [chr(ord("A") + FREE.index(text)) for text in json.loads(key.read_text())["prompts"]]
    assert truth != sorted(truth)
    empty = (raters / "answers.csv").read_text().splitlines()
    assert empty[0] == "number,prompts"
    lines = [line + one.lower() for line, one in zip(empty[1:], ["-", *truth[1:]], strict=True)]
    (tmp_path / "a.csv").write_text("\n".join([*empty[:1], *lines]) + "\n")
    (tmp_path / "b.csv").write_text("\n".join([*lines[:-1], "56,"]) + "\n")
    told = run("blind_prompts", f"--key={key}", f"--answers={tmp_path / 'a.csv'},{tmp_path / 'b.csv'}").splitlines()
    assert [line.split(": ")[1].split(",")[0] for line in told[:3]] == [
        *("55 of 56 right", "54 of 56 right", "54 of 56 right")
    ]
