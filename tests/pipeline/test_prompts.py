"""Files of prompts: each published form, and each way in which a file can be wrong."""

import json
from pathlib import Path

import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.pipeline.prompts import Prompt, choose, read_prompts

VILG = (
    "\ufeffPrompt,文本,类别,来源\r\n"
    '"A red book and a yellow vase.","一本红色的书和一个黄色的花瓶。",color,DrawBench\r\n'
    '"A sign that says\n""Deep Learning"".","写着\n“深度学习”的标志",写作,DrawBench\r\n'
)
COCO = {
    "images": [{"id": 7}, {"id": 3}],
    "annotations": [
        {"image_id": 7, "id": 1, "caption": "A cat on a mat.\n"},
        {"image_id": 3, "id": 2, "caption": "Two dogs."},
        {"image_id": 7, "id": 3, "caption": "The mat has a cat."},
    ],
}


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return folder / name


def test_vilg_300_gives_each_row_in_both_languages(tmp_path: Path) -> None:
    assert read_prompts(write(tmp_path, "vilg.csv", VILG)) == [
        Prompt("00000_en", "A red book and a yellow vase.", "en", "color"),
        Prompt("00000_zh", "一本红色的书和一个黄色的花瓶。", "zh", "color"),
        Prompt("00001_en", 'A sign that says "Deep Learning".', "en", "写作"),
        Prompt("00001_zh", "写着 “深度学习”的标志", "zh", "写作"),
    ]
    chinese = choose(read_prompts(tmp_path / "vilg.csv"), "vilg.csv", language="zh")
    assert [prompt.id for prompt in chinese] == ["00000_zh", "00001_zh"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "\ufeffa cat\n\n# not a prompt\n  一只猫  \n", [("00000", "a cat", ""), ("00001", "一只猫", "")]),
        ("a.txt", "a cat\u2028on a mat\r\na dog", [("00000", "a cat\u2028on a mat", ""), ("00001", "a dog", "")]),
        ("a.jsonl", '{"id": "x", "text": "a", "category": "b"}\n{"zh": "狗"}', [("x", "a", "b"), ("00001", "狗", "")]),
        ("a.jsonl", '{"id": 7, "en": "a cat", "zh": "猫"}\n', [("7_en", "a cat", ""), ("7_zh", "猫", "")]),
        ("drawbench.csv", "Prompts,Category\nA red car,Colors\n", [("00000", "A red car", "Colors")]),
        (
            "PartiPrompts.tsv",
            'Prompt\tCategory\tChallenge\tNote\nan inch 12" long\tAbstract\tBasic\tx, y\n',
            [("00000", 'an inch 12" long', "Abstract")],
        ),
    ],
)  # fmt: skip
def test_prompts_of_each_kind_of_file(
    tmp_path: Path, name: str, text: str, expected: list[tuple[str, str, str]]
) -> None:
    found = read_prompts(write(tmp_path, name, text))
    assert [(prompt.id, prompt.text, prompt.category) for prompt in found] == expected


def test_coco_gives_one_caption_of_each_image_drawn_by_the_seed(tmp_path: Path) -> None:
    file = write(tmp_path, "captions_val2014.json", json.dumps(COCO))
    drawn = [[prompt.text for prompt in read_prompts(file, seed=seed)] for seed in range(20)]
    assert {texts[0] for texts in drawn} == {"Two dogs."}
    assert {texts[1] for texts in drawn} == {"A cat on a mat.", "The mat has a cat."}
    assert [prompt.id for prompt in read_prompts(file)] == ["000000000003", "000000000007"]
    assert read_prompts(file, seed=3) == read_prompts(file, seed=3)


def test_count_draws_prompts_by_the_seed_and_keeps_their_order(tmp_path: Path) -> None:
    prompts = read_prompts(write(tmp_path, "a.txt", "\n".join(f"prompt {number}" for number in range(50))))
    some = choose(prompts, "a.txt", count=10)
    assert len(some) == 10
    assert some == sorted(some, key=lambda prompt: prompt.id)
    assert some == choose(prompts, "a.txt", count=10) != choose(prompts, "a.txt", count=10, seed=1)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.txt", "\n\n", "there is no prompt in it"),
        ("a.png", "x", "must be a file of prompts: .txt"),
        ("a.csv", "title,year\nx,1\n", "the first line must name the column of the prompts"),
        ("a.csv", "", "the first line must name the column of the prompts"),
        ("a.csv", 'prompt\n"a cat\n', "not comma-separated values"),
        ("a.csv", "id,prompt\nx,\n", "line 2: there is no prompt"),
        ("a.csv", "id,prompt\nx,a cat\nx,a dog\n", "the id 'x' is there twice"),
        ("a.csv", "id,prompt\n../x,a cat\n", "must be up to 80 letters"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": ', "line 2: not JSON"),
        ("a.jsonl", '["a cat"]\n', "each line must be an object"),
        ("a.jsonl", '{"prompt": ["a cat"]}\n', "must be text"),
        ("a.json", "[]", "no list of annotations"),
        ("a.json", '{"annotations": [{"image_id": "x"}]}', "no list of annotations"),
        ("a.txt", "a\0cat", "NUL"),
    ],
)
def test_a_wrong_file_is_told_in_one_sentence(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(UserError) as raised:
        read_prompts(write(tmp_path, name, text))
    assert told in str(raised.value)
    assert name in str(raised.value)


def test_a_missing_file_and_too_few_prompts_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_prompts(tmp_path / "none.txt")
    prompts = read_prompts(write(tmp_path, "a.txt", "a cat"))
    with pytest.raises(UserError, match=r"a\.txt has 1 prompts, fewer than the 2"):
        choose(prompts, "a.txt", count=2)
    with pytest.raises(UserError, match=r"a\.txt: there is no prompt in zh"):
        choose(prompts, "a.txt", language="zh")
