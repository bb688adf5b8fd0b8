"""The page of training examples, written by the command and looked at in a browser."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.demo import get_config
from ernie_vilg_jax.annotation.annotate import annotate
from tests.commands import python_m

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def annotated(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("look") / "annotated"
    annotate(str(data), str(path))
    return path


def inspect(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*python_m(), "ernie_vilg_jax.inspect_data", "--config=configs/demo.py:smoke"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def written(annotated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("page") / "look.html"
    done = inspect(f"--config.data.path={annotated}", f"--output={output}", "--count=6")
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def page(written: Path) -> Iterator[Any]:
    """The page in headless Chromium, at the width of a desktop."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (apt install chromium)")
    from playwright.sync_api import sync_playwright

    switches = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=switches)
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        problems: list[str] = []
        tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
        tab.goto(written.as_uri())
        yield tab
        assert not problems, "the page asked the network or had errors"
        browser.close()


def test_each_example_is_shown_with_its_image(page: Any):
    assert page.locator(".card").count() == 6
    loaded = page.eval_on_selector_all(".picture img", "all => all.map(one => one.complete && one.naturalWidth > 0)")
    assert len(loaded) == 12 and all(loaded)
    box = page.locator(".picture").first.bounding_box()
    assert box["width"] > 150 and abs(box["width"] - box["height"]) < 1


def test_words_are_coloured_by_part_of_speech(page: Any):
    colours = {
        name: page.locator(f".caption .{name}").first.evaluate("one => getComputedStyle(one).backgroundColor")
        for name in ("n", "a")
    }
    assert colours["n"] != colours["a"] and "rgba(0, 0, 0, 0)" not in colours.values()
    captions = page.locator(".caption").all_inner_texts()
    words = page.locator(".caption .word").all_inner_texts()
    assert any(re.search("[一-龥]", text) for text in captions + words) and any(text.isascii() for text in captions)
    assert set(words) & {"circle", "square", "圆形", "正方形", "star", "星形", "triangle", "三角形", "heart", "心形"}


def test_boxes_lie_where_the_objects_are_painted(page: Any):
    """The objects of drawn scenes are painted on a plain ground, so inside their boxes the image is not plain."""
    inside, outside = page.evaluate(
        """async () => {
          const card = document.querySelector(".card"), image = card.querySelector("img");
          const canvas = document.createElement("canvas");
          canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0);
          const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
          const ground = [...pixels.slice(0, 3)];
          const boxes = [...card.querySelectorAll("rect")].map((r) =>
            ["x", "y", "width", "height"].map((name) => r[name].baseVal.value));
          const counts = [[0, 0], [0, 0]];
          for (let y = 0; y < canvas.height; y++) for (let x = 0; x < canvas.width; x++) {
            const [u, v] = [(x + 0.5) / canvas.width, (y + 0.5) / canvas.height];
            const within = boxes.some(([l, t, w, h]) => u > l && u < l + w && v > t && v < t + h);
            const at = 4 * (y * canvas.width + x);
            const painted = ground.some((value, k) => Math.abs(pixels[at + k] - value) > 60);
            counts[within ? 0 : 1][0] += painted; counts[within ? 0 : 1][1] += 1;
          }
          return counts.map(([painted, all]) => all ? painted / all : 0);
        }"""
    )
    assert inside > 0.4 and outside < 0.1


def test_tokens_show_symbols_and_weights(page: Any):
    assert page.locator(".token.symbol").count() > 6
    assert page.locator(".token b").first.inner_text() == "×1.01"
    assert page.locator(".token", has_text="begin").count() == 6


def test_layers_can_be_hidden(page: Any):
    boxes, veil = page.locator(".boxes").first, page.locator(".weights").first
    assert boxes.is_visible() and veil.is_visible()
    page.uncheck("#boxes")
    page.uncheck("#weights")
    assert not boxes.is_visible() and not veil.is_visible()
    page.check("#boxes")
    page.check("#weights")
    assert boxes.is_visible() and veil.is_visible()


def test_a_phone_needs_no_sideways_scrolling(page: Any):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "inspect_phone.png")


def test_records_can_be_selected_by_id(annotated: Path, tmp_path: Path):
    from ernie_vilg_jax.data.records import open_split

    name = open_split(annotated, "train")[3].id
    done = inspect(f"--config.data.path={annotated}", f"--ids={name}", f"--output={tmp_path / 'one.html'}")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "one.html").read_text()
    assert text.count('class="card"') == 1 and name in text
    done = inspect(f"--config.data.path={annotated}", "--ids=nothing/1", f"--output={tmp_path / 'none.html'}")
    assert done.returncode != 0 and "no record 'nothing/1'" in done.stderr and "Traceback" not in done.stderr


def damaged(path: Path, name: str, size: int) -> None:
    """The beginning of the file alone; a folder in its place for -1."""
    if size < 0:
        (path / name).unlink()
        (path / name).mkdir()
    else:
        os.truncate(path / name, size)


@pytest.mark.parametrize(
    ("name", "size", "sentence"),
    [
        ("train-00000-of-00002.array_record", 900, "has 900 bytes where the manifest says"),
        ("manifest.json", 900, "manifest.json is damaged"),
        ("manifest.json", -1, "manifest.json: is a directory; a file belongs here"),
        ("tokenizer/sentencepiece.model", 0, "is damaged (it is not the one that "),
    ],
)
def test_damaged_data_is_one_sentence(data: Path, tmp_path: Path, name: str, size: int, sentence: str):
    copy = shutil.copytree(data, tmp_path / "copy")
    damaged(copy, name, size)
    done = inspect(f"--config.data.path={copy}", f"--output={tmp_path / 'look.html'}")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ") and sentence in done.stderr


def test_an_unwritable_output_is_reported_before_the_data_is_read(tmp_path: Path):
    done = inspect("--config.data.path=nowhere", f"--output={tmp_path}")
    assert done.returncode == 1 and f"error: --output={tmp_path} cannot be written ({tmp_path}: is a dir" in done.stderr


def test_plain_data_is_shown_with_the_hint_to_annotate(data: Path, tmp_path: Path):
    done = inspect(f"--config.data.path={data}", "--count=2", f"--output={tmp_path / 'plain.html'}")
    assert done.returncode == 0, done.stderr
    assert "Not annotated" in (tmp_path / "plain.html").read_text()


def test_captions_are_text_not_markup(annotated: Path):
    """A caption may have any text; it must be escaped."""
    from ernie_vilg_jax.data.examples import ExampleMaker
    from ernie_vilg_jax.data.inspect_page import page
    from ernie_vilg_jax.data.records import open_split
    from ernie_vilg_jax.data.tokenizers import load_tokenizer

    config = get_config("smoke")
    config.data.path = str(annotated)
    maker = ExampleMaker.of(config, load_tokenizer(config), open_split(annotated, "train"), train=True)
    import numpy as np

    example = maker.draw(0, np.random.default_rng(0))._replace(text="<script>alert(1)</script>", words=[])
    assert "<script>alert" not in page(maker, [example], title="<b>")
