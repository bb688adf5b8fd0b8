"""The page's server with a worker that paints nothing: any body gets an answer, and every client its share."""

import json
import shutil
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import portpicker
import pytest

from benchmarks.damage.inputs.serve import Painter
from benchmarks.load_demo import GOOD, HOSTILE, request, send
from ernie_vilg_jax.webapp.guard import BUSY, SHARE
from tests.pages import NEEDS_GRADIO

pytestmark = NEEDS_GRADIO
FILE = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}


painter = Painter()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from ernie_vilg_jax.webapp.page import Page

    page = Page(painter, queue_size=6, client_queue_size=3)  # type: ignore[arg-type]
    yield page.launch("127.0.0.1", portpicker.pick_unused_port()).rstrip("/")
    page.blocks.close()


@pytest.fixture
def quiet(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails if the server printed or logged a traceback."""
    yield
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err + captured.out + caplog.text
    assert not [record for record in caplog.records if record.exc_info]


def join(address: str, client: str = "") -> tuple[int, str]:
    """Status and body of the answer to a request that is not waited for; `client` as a proxy would tell it."""
    headers = {"Content-Type": "application/json", **({"X-Forwarded-For": client} if client else {})}
    post = urllib.request.Request(f"{address}/gradio_api/call/generate", request(count=1), headers)
    try:
        with urllib.request.urlopen(post, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_valid_request_is_filled(address: str, quiet: None) -> None:
    kind, text = send(address, "call/generate", request(count=3))
    assert kind == "complete" and len(json.loads(text)[0]) == 3


@pytest.mark.parametrize("place", range(len(GOOD)))
def test_a_value_of_any_other_type_is_one_sentence(place: int, address: str, quiet: None) -> None:
    for value in ([], {}, [1], [["a"]], {"a": 1}, FILE, [FILE], {"x": FILE}, {"__type__": "update"}):
        status, text = send(address, "call/generate", request(place, value))
        assert (status, json.loads(text)["detail"][:36]) == ("HTTP 422", "Values must be text, numbers, true o"), value
    for value in (True, -3, 1.5, "x", float("nan"), 10**30):
        kind, text = send(address, "call/generate", request(place, value))
        error = json.loads(text)
        # 4: its seed is random; 14 and 15: there is no image in a request of a prompt alone.
        fitting = (0, "x"), (3, True), (5, "x"), (8, 1.5), (14, "x"), (15, "x")
        valid = place == 4 or (place, value) in fitting
        assert (kind == "complete") == valid, (value, text)
        assert valid or len(error["error"]) < 300


@pytest.mark.parametrize("count", [0, 1, len(GOOD) - 1, len(GOOD) + 1, 30])
def test_too_few_and_too_many_values_are_one_sentence(count: int, address: str, quiet: None) -> None:
    data = [*json.loads(request())["data"], *range(30)][:count]
    kind, text = send(address, "call/generate", json.dumps({"data": data}).encode())
    assert kind == "HTTP 422"
    assert json.loads(text)["detail"] == f"The page sends {len(GOOD)} values, and this request has {count}."


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"3", b"null", b"{}", b'"x"', b"\xff", b'{"data": 3}', b'{"data": null}', b'{"data": {}}'),
        *(b'{"data": ["a"], "session_hash": 3}', b'{"data": ["a"], "fn_index": 99, "session_hash": "a"}'),
        *(b'{"data": ["a"], "fn_index": [], "session_hash": "a"}', b'{"data": ["a"], "fn_index": 0}'),
        b'{"data": ["a"], "fn_index": null, "session_hash": "a"}',
    ],
)
def test_bodies_of_any_form_are_answered(body: bytes, address: str, quiet: None) -> None:
    for path in ("call/generate", "queue/join", "run/generate", "call/nothing", "cancel", "reset", "component_server"):
        kind, text = send(address, path, body, timeout=20)
        assert kind.startswith("HTTP 4") or kind == "HTTP 500", (path, kind, text)
        assert "Traceback" not in text


@pytest.mark.parametrize("name", HOSTILE)
def test_invalid_requests_leave_no_traceback(name: str, address: str, quiet: None) -> None:
    kind, text = send(address, *HOSTILE[name])
    assert (kind == "error" or kind.startswith("HTTP")) and "Traceback" not in text and len(text) > 20


@pytest.fixture
def busy(address: str) -> Iterator[None]:
    """The worker is at another client's request."""
    painter.begun.clear()
    painter.free.clear()
    assert join(address, "10.0.0.9")[0] == 200 and painter.begun.wait(30)
    yield
    painter.free.set()
    end = time.monotonic() + 30
    while send(address, "call/generate", request(count=1))[0] != "complete":  # until the queue has been worked off
        assert time.monotonic() < end


def test_a_client_has_its_share_and_the_next_one_too(address: str, busy: None, quiet: None) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: join(address, "10.0.0.1"), range(20)))
    assert Counter(status for status, _ in answers) == {200: 3, 429: 17}
    assert {json.loads(text)["detail"] for status, text in answers if status == 429} == {SHARE.format(3)}
    others = [join(address, f"10.0.0.{place}") for place in (2, 3, 4, 5)]
    assert [status for status, _ in others] == [200, 200, 200, 503], "and there are six places for all"
    assert json.loads(others[-1][1])["detail"] == BUSY
    assert join(address, "10.0.0.1")[0] == 429


def test_the_page_shows_why_a_request_is_refused(address: str, busy: None) -> None:
    if (chromium := shutil.which("chromium") or shutil.which("google-chrome")) is None:
        pytest.skip("Chromium is not installed (apt install chromium)")
    from playwright.sync_api import sync_playwright

    assert [join(address)[0] for _ in range(4)] == [200, 200, 200, 429]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page()
        tab.goto(address)
        tab.fill("#prompt textarea", "一只猫")
        tab.click("#generate")
        assert SHARE.format(3) in tab.get_by_test_id("toast-body").inner_text(timeout=30_000)
        browser.close()


def test_a_share_is_free_again_when_its_requests_are_done(address: str, quiet: None) -> None:
    for _ in range(3):
        kind, _ = send(address, "call/generate", request(count=1))
        assert kind == "complete"
    assert join(address)[0] == 200
