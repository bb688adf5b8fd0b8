"""Labelled grids and PNGs with metadata."""

import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax import grid
from ernie_vilg_jax.errors import UserError


def plain(color: str, width: int = 64, height: int = 64) -> Image.Image:
    return Image.new("RGB", (width, height), color)


def ink(image: Image.Image, box: tuple[int, int, int, int]) -> int:
    """How many pixels of a box are darker than mid-grey."""
    return int(np.sum(np.asarray(image.crop(box).convert("L")) < 128))


def test_bundled_font_has_the_characters_of_chinese_and_english_prompts():
    text = "一只戴红帽子的熊猫，鹦鹉、鳄鱼与蝙蝠；“龙卷风”！唵 A red hat – 20°"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown, font = grid._text_and_font(text, 16)
    assert shown == text
    assert font.path == str(grid.BUNDLED_FONT) or font.path == grid.BUNDLED_FONT


def test_every_label_is_drawn_under_its_own_image():
    labels = ["红色的向日葵在黄色的猴子的右边，远处还有一座灯塔。" * 3, "a cat", "", "一只猫"]
    sheet = grid.labelled_grid([plain("yellow")] * 4, labels, columns=4, cell=100)
    margin, step = 6, 106
    counts = [ink(sheet, (margin + i * step, margin + 100, margin + i * step + 100, sheet.height)) for i in range(4)]
    assert counts[0] > counts[1] > 0 and counts[3] > 0
    assert counts[2] == 0
    gaps = [ink(sheet, (100 + margin + i * step, 0, (i + 1) * step + margin, sheet.height)) for i in range(4)]
    assert gaps == [0, 0, 0, 0], "labels reach into the gap between columns"


def test_long_label_pushes_the_next_row_down():
    long = "a very long sentence about a panda " * 6
    tall = grid.labelled_grid([plain("red")] * 2, [long, "b"], columns=1, cell=100)
    short = grid.labelled_grid([plain("red")] * 2, ["a", "b"], columns=1, cell=100)
    assert tall.height > short.height
    red = np.all(np.asarray(tall) == (255, 0, 0), axis=-1)
    assert red.sum() == 2 * 100 * 100, "a label covers part of a picture"


@pytest.mark.parametrize("text", ["红色的向日葵在黄色的猴子的右边，" * 4, "a red sunflower " * 5, "Donaudampfer" * 5])
def test_wrapped_lines_fit_and_keep_the_text(text: str):
    shown, font = grid._text_and_font(text, 16)
    lines = grid._wrap(shown, font, 90)
    assert all(font.getlength(line) <= 90 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert not any(line.startswith("，") for line in lines)


def test_newlines_are_kept():
    _, font = grid._text_and_font("a", 16)
    assert grid._wrap("熊猫\na panda", font, 200) == ["熊猫", "a panda"]


def test_a_word_of_thousands_of_characters_is_cut_soon():
    """Measuring every beginning of what is left took 20 seconds."""
    measured: list[str] = []

    class Font:
        def getlength(self, text: str) -> float:
            measured.append(text)
            return 10.0 * len(text)

    font: Any = Font()
    assert grid._wrap("x" * 3000, font, 160) == ["x" * 16] * 187 + ["x" * 8]
    assert len(measured) < 3000
    assert grid._wrap("xy", font, 5) == ["x", "y"], "a line has one character at least"


def test_characters_without_a_glyph_show_their_code_point_and_warn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grid, "_system_fonts", lambda: ())
    with pytest.warns(UserWarning, match=r"U\+1F43C"):
        shown, _ = grid._text_and_font("🐼 熊猫", 16)
    assert shown == "<U+1F43C> 熊猫"


def test_a_system_font_is_used_if_the_bundled_one_lacks_a_character(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grid, "BUNDLED_FONT", grid.BUNDLED_FONT.with_name("absent.otf"))
    monkeypatch.setattr(grid, "_system_fonts", lambda: ())
    with pytest.raises(UserError, match="reinstall"):
        grid._text_and_font("a", 16)


def test_grid_shapes():
    images = [plain("red")] * 9
    assert grid.labelled_grid(images, ["a"] * 9, cell=50).width == 3 * (50 + 6) + 6
    assert grid.labelled_grid(images[:1], ["a"], columns=5, cell=50).width == 50 + 12
    with pytest.raises(ValueError, match="one label per picture"):
        grid.labelled_grid(images, ["a"])


def test_transparent_and_oblong_images_keep_their_shape_on_the_background():
    image = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    fitted = grid._fit(image, 80)
    assert fitted.size == (80, 40)
    assert fitted.getpixel((40, 20)) == (255, 255, 255)


def test_png_metadata_round_trip(tmp_path):
    path = tmp_path / "new" / "a.png"
    grid.save_png(plain("red"), path, {"prompt": "一只戴红帽子的熊猫", "seed": 3, "settings": {"steps": 50}})
    image = Image.open(path)
    assert image.text == {"prompt": "一只戴红帽子的熊猫", "seed": "3", "settings": '{"steps": 50}'}  # type: ignore[attr-defined]


def test_unwritable_path_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a file is where a folder belongs"):
        grid.save_png(plain("red"), tmp_path / "file" / "a.png", {})
