"""An image is made again from the settings inside it."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.grid import save_png
from ernie_vilg_jax.pipeline import Pipeline, remake

PROMPT = "红色的圆形"
OPTIONS: dict[str, Any] = {
    "num_images": 4, "seed": 7, "sampler": "ddpm", "variance": "large", "grid": "karras", "guidance_scale": 4.0,
    "negative_prompt": "12", "guidance_interval": (0, 900), "steps": 3,
}  # fmt: skip


def furthest(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one, int) - np.asarray(other, int)).max())


def test_the_third_of_four_images_is_made_again_from_its_file(pipe: Pipeline, tmp_path: Path) -> None:
    """With fresh noise, which the image's number decides, and a prompt that reads as JSON."""
    image = pipe(["12", PROMPT], **OPTIONS)[6]
    save_png(image, tmp_path / "image.png", image.info)
    for source in (tmp_path / "image.png", image, Image.open(tmp_path / "image.png")):
        again = pipe.again(source)
        assert furthest(again, image) <= 1
        assert again.info == image.info
    assert furthest(pipe.again(image, seed=8), image) > 10
    assert pipe.again(image, seed=8).info == {**image.info, "seed": 8}


def test_images_that_began_with_another_need_it(pipe: Pipeline, tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
    mask = Image.new("L", picture.size)
    mask.paste(255, (0, 0, 16, 8))
    for strength in (0.5, 1.0):
        made = pipe.inpaint(PROMPT, picture, mask, strength=strength)[0]
        save_png(made, tmp_path / "image.png", made.info)
        assert furthest(pipe.again(tmp_path / "image.png", image=picture, mask=mask), made) == 0
        cases: list[tuple[dict[str, Any], str]] = [({}, "image"), ({"image": picture}, "mask")]
        for given, missing in cases:
            with pytest.raises(UserError, match=f"{missing}: the image was made from one, which is not inside it"):
                pipe.again(made, **given)


def test_another_model_is_told(
    pipe: Pipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pipe, "weights", "abc")
    image = pipe(PROMPT)[0]
    assert image.info["weights"] == "abc"
    pipe.again(image)
    assert not caplog.messages
    monkeypatch.setattr(pipe, "weights", "def")
    with caplog.at_level(logging.WARNING):
        pipe.again(image)
    assert "another model made this image (abc, and this is def)" in caplog.text


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ({}, "holds no prompt and seed: another program made it"),
        ({"prompt": "a cat"}, "holds no prompt and seed"),
        ({"prompt": "a cat", "seed": "seven"}, "holds no prompt and seed"),
        ({"prompts": ["a cat"], "seed": 1}, "is a grid of images; give one of them"),
        ({"prompt": "a cat", "seed": 1, "number": -1}, "its number -1 must be a whole number from 0 up"),
    ],
)
def test_files_without_settings_are_one_sentence(texts: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    save_png(Image.new("RGB", (4, 4)), tmp_path / "image.png", texts)
    with pytest.raises(UserError, match=sentence):
        remake.read(tmp_path / "image.png")
    with pytest.raises(UserError, match="cannot be read: No such file"):
        remake.read(tmp_path / "none.png")
