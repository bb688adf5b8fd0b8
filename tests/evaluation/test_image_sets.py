"""Images of prompts, found by their names; real images from folders and prepared data."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.image_sets import of_prompts, pixels, reference_of
from ernie_vilg_jax.pipeline.prompts import Prompt

PROMPTS = [Prompt("cat", "a cat", "en"), Prompt("dog_1", "a dog", "en")]


def draw(folder: Path, *names: str) -> Path:
    for shade, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (shade, 0, 0)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ["cat.png", "dog_1.jpg"],
        ["cat_0.png", "cat_1.png", "dog_1_0.png"],
        ["cat/one.png", "cat/two.webp", "dog_1/00.png"],
        ["cat.png", "dog_1.png", "grid.png", ".hidden/x.png"],
    ],
)
def test_files_are_matched_with_prompts_by_their_names(tmp_path: Path, names: list[str]) -> None:
    made = of_prompts(draw(tmp_path, *names), PROMPTS)
    kept = [name for name in names if name not in ("grid.png", ".hidden/x.png")]
    found = [Path(made.images.name(number)) for number in range(len(made.images))]
    assert [file.relative_to(tmp_path).as_posix() for file in found] == sorted(kept)
    assert [made.prompts[own].id for own in made.own] == [
        "cat" if name.startswith("cat") else "dog_1" for name in sorted(kept)
    ]


def test_a_table_names_the_prompts_of_other_files(tmp_path: Path) -> None:
    draw(tmp_path, "1.png", "2.png", "cat.png")
    (tmp_path / "images.csv").write_text("file,id\n1.png,dog_1\n2.png,cat\n")
    assert of_prompts(tmp_path, PROMPTS).own.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["cat.png"], "1 of 2 prompts have no image, such as dog_1"),
        (["cat.png", "dog_1.png", "bird.png"], "1 of 3 images are of no prompt, such as bird.png"),
        (["cat_x.png", "dog_1.png"], "are of no prompt"),
        ([], "there are no images in it"),
    ],
)
def test_images_that_do_not_match_are_told(tmp_path: Path, names: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        of_prompts(draw(tmp_path, *names), PROMPTS)


def test_a_missing_folder_and_a_wrong_table_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        of_prompts(tmp_path / "none", PROMPTS)
    draw(tmp_path, "1.png")
    (tmp_path / "images.csv").write_text("name,prompt\n1.png,cat\n")
    with pytest.raises(UserError, match="the first line must be file,id"):
        of_prompts(tmp_path, PROMPTS)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    draw(tmp_path, "cat.png", "dog_1.png")
    (tmp_path / "dog_1.png").write_bytes(b"\x89PNG")
    made = of_prompts(tmp_path, PROMPTS)
    assert pixels(made.images, 0).shape == (4, 4, 3)
    with pytest.raises(UserError, match=r"dog_1\.png cannot be read"):
        pixels(made.images, 1)


def test_real_images_from_a_folder_and_from_prepared_data(tmp_path: Path, prepared: Path) -> None:
    real = reference_of(draw(tmp_path / "real", "b.png", "deep/a.png"), "train")
    assert [pixels(real, number)[0, 0, 0] for number in range(len(real))] == [0, 1]
    held_out = reference_of(prepared, "holdout")
    assert len(held_out) > 0
    assert pixels(held_out, 0).dtype == np.uint8
    assert len(reference_of(prepared, "train")) > len(held_out)
