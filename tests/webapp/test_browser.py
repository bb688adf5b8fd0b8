"""The page in a browser, with a worker that paints: what a visitor sees, marks and finds again.

pytest -m hosts tests/webapp/test_browser.py        # needs Chromium; SCREENSHOTS=FOLDER keeps what it looks like
"""

import io
import os
import re
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import portpicker
import pytest
from PIL import Image

from benchmarks.damage.inputs.serve import Painter
from tests.pages import NEEDS_GRADIO, watched

pytestmark = [pytest.mark.hosts, NEEDS_GRADIO]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
painter = Painter()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from ernie_vilg_jax.webapp.page import Page

    page = Page(painter, queue_size=6)  # type: ignore[arg-type]
    painter.status = "The model is being compiled for its first visitor"
    yield page.launch("127.0.0.1", portpicker.pick_unused_port()).rstrip("/")
    page.blocks.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (apt install chromium)")
    from playwright.sync_api import sync_playwright

    switches = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=switches)
        yield found
        found.close()


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Any]:
    """A new visit. It may ask no other server, and have no errors."""
    tab = browser.new_context(viewport={"width": 1100, "height": 900}).new_page()
    tab.set_default_timeout(90_000)
    problems = watched(tab, address)
    yield tab
    painter.free.set()
    tab.context.close()
    assert not problems


def keep(tab: Any, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        tab.wait_for_timeout(600)
        tab.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def generate(tab: Any, prompt: str) -> None:
    tab.fill("#prompt textarea", prompt)
    tab.click("#generate")


def made(tab: Any) -> str:
    """The query of the link to what was made."""
    tab.wait_for_selector("#note #link")
    return tab.get_attribute("#note #link", "href")


def test_the_page_is_there_while_the_model_is_compiled_and_says_so(tab: Any) -> None:
    tab.wait_for_function("document.querySelector('#status').innerText.includes('being compiled')")
    keep(tab, "compiling")
    painter.status = ""
    tab.wait_for_function("getComputedStyle(document.querySelector('#status')).display == 'none'")


def test_steps_experts_and_what_was_made(tab: Any, address: str) -> None:
    painter.free.clear()
    generate(tab, "a zebra")
    tab.wait_for_function("document.querySelector('#note').innerText.includes('Step 2 of 4')")
    parts = tab.locator("#note .timeline span")
    assert parts.all_inner_texts() == ["expert 1", "expert 0"]
    assert tab.locator("#note .timeline .now").inner_text() == "expert 1"
    assert [one.get_attribute("style") for one in tab.locator("#note .timeline i").all()] == [
        "width: 100.0%",
        "width: 0.0%",
    ]
    tab.wait_for_function("document.querySelectorAll('#pictures .grid-container img').length == 4")
    keep(tab, "running")
    painter.free.set()
    query = dict(urllib.parse.parse_qsl(made(tab)[1:]))
    assert query["prompt"] == "a zebra" and query["images"] == "4" and query["seed"] == str(painter.asked.params.seed)
    assert "The model was never shown: zebra" in tab.inner_text("#note")
    tab.wait_for_function("[...document.querySelectorAll('#pictures img')].every(one => one.naturalWidth == 8)")
    links = tab.eval_on_selector_all("#pictures .grid-container img", "all => all.map(one => one.src)")
    names = [urllib.parse.unquote(link.rpartition("/")[2]) for link in links]
    assert names == [f"a_zebra_{query['seed']}_{number}.png" for number in range(4)]
    image = Image.open(io.BytesIO(urllib.request.urlopen(links[2], timeout=60).read()))
    assert image.text["prompt"] == "a zebra" and image.text["seed"] == query["seed"]  # type: ignore[attr-defined]
    tab.wait_for_function("document.querySelectorAll('#visit a').length == 1")
    keep(tab, "result")


def test_the_visit_has_a_history_and_its_links_bring_settings_back(tab: Any, address: str) -> None:
    generate(tab, "一只猫")
    first = made(tab)
    tab.wait_for_function("document.querySelectorAll('#visit a').length == 1")
    generate(tab, "a dog")
    tab.wait_for_function("document.querySelector('#note #prompt-made')?.innerText == 'a dog'")
    tab.wait_for_function("document.querySelectorAll('#visit a').length == 2")
    assert urllib.parse.urlsplit(tab.url).query == made(tab)[1:], "the address is a link to what is shown"
    tab.locator("#visit a", has_text="一只猫").click()
    tab.wait_for_function("document.querySelector('#prompt textarea')?.value == '一只猫'")
    assert tab.locator("#visit a").count() == 2, "the history outlives the click"
    tab.click("#generate")
    assert made(tab) == first, "with the seed of that link"


def test_a_link_fills_the_form(tab: Any, address: str) -> None:
    query = {
        "prompt": "a & b",
        "steps": "33",
        "seed": "7",
        "style": "3D style",
        "images": "2",
        "without": "12",
        "enlarge": "4",
    }
    tab.goto(f"{address}/?{urllib.parse.urlencode(query)}")
    tab.wait_for_function("document.querySelector('#prompt textarea')?.value == 'a & b'")
    tab.click("#generate")
    assert dict(urllib.parse.parse_qsl(made(tab)[1:])).items() >= query.items()
    params = painter.asked.params
    assert (params.steps, params.seed, params.num_images, params.negative_prompt) == (33, 7, 2, ("12",))
    tab.wait_for_function("[...document.querySelectorAll('#pictures img')].every(one => one.naturalWidth == 32)")
    tab.goto(f"{address}/?steps=999&seed=x&prompt=a%20fox")
    tab.wait_for_function("document.querySelector('#prompt textarea')?.value == 'a fox'")


def test_stop_says_so_and_frees_the_model(tab: Any) -> None:
    painter.free.clear()
    generate(tab, "a fox")
    tab.wait_for_function("document.querySelector('#note').innerText.includes('Step 2 of 4')")
    tab.click("#stop")
    tab.wait_for_function("document.querySelector('#note').innerText.includes('Stopped')")
    with tab.expect_response("**/reset"):  # gradio takes no other request before
        painter.free.set()
    generate(tab, "a bear")
    tab.wait_for_function("document.querySelector('#note #prompt-made')?.innerText == 'a bear'")


def choose(tab: Any, way: str, title: str, tmp_path: Path) -> Any:
    """Opens the tab of a way and chooses an image: red above, blue below, wider than high."""
    picture = Image.new("RGB", (300, 200), "red")
    picture.paste("blue", (0, 100, 300, 200))
    picture.save(tmp_path / "picture.png")
    tab.get_by_role("tab", name=re.compile(title)).click()
    tab.set_input_files(f"#given-{way} input[type=file]", tmp_path / "picture.png")
    tab.wait_for_selector(f"#given-{way} .given[data-chosen]")
    return tab.locator(f"#given-{way} .sheets")


def test_an_image_to_begin_with(tab: Any, tmp_path: Path) -> None:
    assert not tab.locator("#strength").is_visible()
    choose(tab, "image", "Image", tmp_path)
    assert tab.locator("#strength").is_visible()
    generate(tab, "a lion")
    made(tab)
    asked = painter.asked
    assert asked.mask is None and asked.strength == 0.6 and asked.image.size == (64, 64)
    assert asked.image.getpixel((32, 10)) == (255, 0, 0) and asked.image.getpixel((5, 60)) == (0, 0, 255)
    tab.get_by_role("tab", name=re.compile("Text")).click()
    generate(tab, "a wolf")
    tab.wait_for_function("document.querySelector('#note #prompt-made')?.innerText == 'a wolf'")
    assert painter.asked.image is None


def test_an_image_and_its_mask_have_the_size_that_was_chosen(tab: Any, address: str, tmp_path: Path) -> None:
    sheets = choose(tab, "mask", "Mask", tmp_path)
    tab.get_by_label("Height x width").click()
    tab.get_by_role("option", name="64 x 96").click()
    tab.wait_for_function("document.querySelector('#given-mask .mask').width == 96")
    sheets.scroll_into_view_if_needed()
    box = sheets.bounding_box()
    assert box["width"] / box["height"] == pytest.approx(1.5, rel=0.02)
    tab.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
    tab.mouse.up()
    generate(tab, "a hat")
    query = dict(urllib.parse.parse_qsl(made(tab)[1:]))
    asked, mask = painter.asked, np.asarray(painter.asked.mask.convert("L"))
    assert (asked.params.height, asked.params.width, query["size"]) == (64, 96, "64x96")
    assert asked.image.size == (96, 64) and asked.image.getpixel((2, 10)) == (255, 0, 0), "nothing of it is cut off"
    assert mask.shape == (64, 96) and mask[32, 50:84].min() > 200 and mask[:, :40].max() == 0
    tab.goto(f"{address}/?{urllib.parse.urlencode({'prompt': 'a cap', 'size': '64x96'})}")
    tab.wait_for_function("document.querySelector('#prompt textarea')?.value == 'a cap'")
    tab.get_by_role("tab", name=re.compile("Image")).click()
    tab.wait_for_function("document.querySelector('#given-image .picture')?.width == 96")


def test_a_mask_is_painted(tab: Any, tmp_path: Path) -> None:
    sheets = choose(tab, "mask", "Mask", tmp_path)
    generate(tab, "a hat")
    tab.get_by_test_id("toast-body").get_by_text("Nothing is marked").wait_for()
    sheets.scroll_into_view_if_needed()
    box = sheets.bounding_box()
    tab.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"])
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"], steps=8)
    tab.mouse.up()
    keep(tab, "mask")
    tab.click("#generate")
    made(tab)
    mask = np.asarray(painter.asked.mask.convert("L"))
    assert painter.asked.strength == 1.0 and mask.shape == (64, 64)
    assert mask[16, 18:46].min() > 200 and mask[40:].max() == 0 and mask[:, :4].max() == 0
    tab.click("#given-mask .clear")
    tab.click("#generate")
    tab.get_by_test_id("toast-body").get_by_text("Nothing is marked").last.wait_for()


def test_on_a_phone_generate_is_at_the_prompt(tab: Any) -> None:
    tab.set_viewport_size({"width": 390, "height": 760})
    tab.wait_for_timeout(300)
    prompt, button = (tab.locator(name).bounding_box() for name in ("#prompt", "#generate"))
    assert 0 <= button["y"] - prompt["y"] - prompt["height"] < 60 and button["y"] + button["height"] < 500
    keep(tab, "phone_empty")
    generate(tab, "a fox")
    made(tab)
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    keep(tab, "phone")
    tab.set_viewport_size({"width": 1100, "height": 600})
    whole = "one => one.scrollHeight <= one.clientHeight + 1 && one.clientHeight > 400"
    assert tab.locator("#pictures .grid-wrap").evaluate(whole), "the gallery is shown whole, in a low window as well"
