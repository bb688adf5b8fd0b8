"""The web demo: started like users do, used in a browser, and with requests that no page would send.

`SCREENSHOTS=docs/images pytest -m documents tests/test_demo.py` renews the images of docs/demo_app.md.
"""

import io
import json
import os
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import portpicker
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from benchmarks.load_demo import HOSTILE, request, send
from ernie_vilg_jax import cli, demo, pipeline
from ernie_vilg_jax.errors import UserError
from tests.commands import python_m
from tests.pages import NEEDS_GRADIO, watched

pytestmark = [pytest.mark.slow, NEEDS_GRADIO]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 300_000
"""Milliseconds."""


def start(*arguments: object) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [*python_m(), "ernie_vilg_jax.demo", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A demo of the checkpoint in the package, with three places in the queue."""
    port = portpicker.pick_unused_port()
    process = start(f"--port={port}", "--queue_size=3", "--client_queue_size=20")
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if "compiled and tried" in line:
            break
    else:
        pytest.fail("the demo did not start: " + "".join(lines))
    opened, compiling = (
        next(n for n, line in enumerate(lines) if text in line) for text in ("open http", "compiling f")
    )
    assert opened < compiling, "the page is there while the first visitor's settings are compiled"
    log = process.stderr
    reader = threading.Thread(target=lambda: lines.extend(log), daemon=True)
    reader.start()
    yield f"http://127.0.0.1:{port}"
    assert process.poll() is None, "the demo died: " + "".join(lines[-30:])
    process.terminate()
    process.wait(60)


def test_adapters_are_those_of_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def load(path: str | None, **options: Any) -> None:
        seen.update(options)
        raise UserError("lora=x: there is no such folder")

    monkeypatch.setattr(pipeline, "load", load)
    monkeypatch.setattr(cli, "enable_compilation_cache", lambda: None)
    with flagsaver.flagsaver(), pytest.raises(UserError, match=r"^--lora=x: there is no such folder"):
        flags.FLAGS(["demo", f"--port={portpicker.pick_unused_port()}", "--lora=x", "--lora_scale=0.5"])
        demo.main([])
    assert seen == {"mode": "resident", "lora": "x", "scale": 0.5}


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (apt install chromium)")
    from playwright.sync_api import sync_playwright

    switches = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=switches)
        tab = browser.new_page(viewport={"width": 1100, "height": 760})
        tab.set_default_timeout(PATIENCE)
        problems = watched(tab, address)
        yield tab
        assert not problems, "the page asked another server or had errors"
        browser.close()


def screenshot(page: Any, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(600)  # messages fade in
        page.screenshot(path=Path(folder) / f"app_{name}.png")


def shown(page: Any) -> list[Image.Image]:
    """The images in the gallery, as a visitor downloads them."""
    page.wait_for_function("[...document.querySelectorAll('#pictures img')].every(one => one.naturalWidth > 0)")
    links = page.eval_on_selector_all("#pictures .grid-container img", "all => all.map(one => one.src)")
    return [Image.open(io.BytesIO(urllib.request.urlopen(link, timeout=60).read())) for link in links]


def generate(page: Any, prompt: str) -> list[Image.Image]:
    page.fill("#prompt textarea", prompt)
    page.click("#generate")
    page.wait_for_function("document.querySelector('#note progress')")
    page.wait_for_function("document.querySelector('#note #prompt-made')")
    assert page.inner_text("#note #prompt-made") == prompt
    return shown(page)


@pytest.mark.documents
def test_a_chinese_prompt_is_drawn_with_previews(page: Any):
    screenshot(page, "empty")
    page.fill("#prompt textarea", "一只熊猫")
    page.click("#generate")
    page.wait_for_function("/Step (1\\d|2\\d|3\\d)/.test(document.querySelector('#note').innerText)")
    page.wait_for_function("document.querySelectorAll('#pictures img').length == 4")
    previews = shown(page)
    screenshot(page, "running")
    page.wait_for_function("document.querySelector('#note #prompt-made')")
    pictures = shown(page)
    assert len(previews) == len(pictures) == 4
    assert {(one.size, one.mode) for one in pictures} == {((64, 64), "RGB")}
    assert len({one.tobytes() for one in [*previews, *pictures]}) == 8
    texts = [getattr(one, "text", {}) for one in pictures]
    assert {text["prompt"] for text in texts} == {"一只熊猫"} and {text["number"] for text in texts} == set("0123")
    assert f"seed {texts[0]['seed']}, 50 steps of ddim" in page.inner_text("#note")


@pytest.mark.documents
def test_an_english_example_is_clicked_and_drawn(page: Any):
    page.get_by_role("button", name="two red cars", exact=True).or_(
        page.get_by_text("two red cars", exact=True)
    ).first.click()
    page.wait_for_function("document.querySelector('#prompt textarea').value == 'two red cars'")
    before = {one.tobytes() for one in shown(page)}
    pictures = generate(page, page.input_value("#prompt textarea"))
    assert len(pictures) == 4 and not before & {one.tobytes() for one in pictures}
    screenshot(page, "result")


@pytest.mark.documents
def test_an_empty_prompt_is_one_sentence_and_keeps_the_images(page: Any):
    page.fill("#prompt textarea", "  ")
    page.click("#generate")
    toast = page.get_by_test_id("toast-body")
    toast.wait_for()
    assert "The prompt is empty: say what the picture should show" in toast.inner_text()
    assert "Traceback" not in page.inner_text("body") and len(shown(page)) == 4
    screenshot(page, "error")
    page.get_by_test_id("toast-close").click()


@pytest.mark.documents
def test_a_phone_needs_no_sideways_scrolling(page: Any):
    page.set_viewport_size({"width": 390, "height": 760})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("#generate").bounding_box()["width"] > 100
    assert len(generate(page, "a fox")) == 4
    page.locator("#pictures").scroll_into_view_if_needed()
    screenshot(page, "phone")
    page.get_by_text("More · 更多").click()
    page.get_by_text("Sampler · 采样器").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.documents
def test_invalid_requests_are_answered_and_change_nothing(address: str):
    for name, (path, body) in HOSTILE.items():
        kind, text = send(address, path, body)
        assert kind == "error" or kind.startswith("HTTP"), f"{name} was taken: {kind} {text[:200]}"
        assert "Traceback" not in text and len(text) > 20, f"{name}: {kind} {text[:200]}"
    assert send(address, *HOSTILE["10 MB prompt"])[0] == "HTTP 413"
    assert "at most 2000 are taken" in send(address, *HOSTILE["prompt of 5,000 characters"])[1]
    kind, text = send(address, "call/generate", request(count=4))
    assert kind == "complete" and len(json.loads(text)[0]) == 4


@pytest.mark.documents
def test_a_request_beyond_a_full_queue_is_told_to_retry(address: str):
    answers: list[tuple[str, str]] = []
    ask = lambda: answers.append(send(address, "call/generate", request(count=4)))  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kinds = [kind for kind, _ in answers]
    assert set(kinds) == {"complete", "HTTP 503"} and 3 <= kinds.count("complete") <= 5
    assert all("The demo is busy" in text for kind, text in answers if kind == "HTTP 503")


@pytest.mark.documents
@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("nowhere.invalid", "cannot be used (Name or service not known)"),
        ("192.0.2.1", "(Cannot assign requested address)"),
    ],
)
def test_a_host_that_is_not_this_machine_is_one_sentence(host: str, sentence: str):
    process = start(f"--host={host}")
    error = process.communicate(timeout=600)[1]
    assert process.returncode == 1 and "Traceback" not in error
    assert error.endswith(f"{sentence}; try --host=127.0.0.1\n")


@pytest.mark.documents
def test_a_taken_port_is_one_sentence(address: str):
    port = address.rsplit(":", 1)[1]
    process = start(f"--port={port}")
    error = process.communicate(timeout=600)[1]
    assert process.returncode == 1 and f"error: --port={port} on --host=127.0.0.1 cannot be used" in error
    assert "Traceback" not in error
