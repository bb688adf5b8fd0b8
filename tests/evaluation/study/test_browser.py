"""A study in a browser: two raters to the end, one on a phone, with interruptions of them and of the server."""

import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import portpicker
import pytest

pytest.importorskip("fastapi", reason="the pages need the extra `study`")

from ernie_vilg_jax.evaluation.study import answers
from ernie_vilg_jax.evaluation.study.database import Database
from ernie_vilg_jax.evaluation.study.raters import Rater, Raters
from tests.commands import python_m

pytestmark = pytest.mark.hosts

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


class Server:
    """`human_study serve`, which can be killed and started again."""

    def __init__(self, place: str) -> None:
        self.port = portpicker.pick_unused_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._command = [*python_m(), "ernie_vilg_jax.human_study", "serve", place, f"--port={self.port}"]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(600):
            assert self.process.poll() is None, "the server did not start"
            try:
                urllib.request.urlopen(self.address, timeout=5).close()
                return
            except urllib.error.URLError:
                time.sleep(0.1)
        pytest.fail("the server did not answer within a minute")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=60)  # until what the server has open is closed, its port, too


Serve = Callable[[str], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A function that starts a server."""
    started: list[Server] = []

    def start(place: str) -> Server:
        started.append(Server(place))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield found
        found.close()


class Person:
    """A rater at a browser of their own; `given` is what they meant to answer."""

    def __init__(self, browser: Any, address: str, rater: Rater, phone: bool = False) -> None:
        self.given: list[str] = []
        self.problems: list[str] = []
        self.phone = phone
        self._browser, self._address, self.rater = browser, address, rater
        self.open()

    def open(self) -> None:
        """A new browser: nothing is left of the old one but the personal link."""
        size = {"width": 390, "height": 760} if self.phone else {"width": 1100, "height": 760}
        self._context = self._browser.new_context(viewport=size, has_touch=self.phone, is_mobile=self.phone)
        self.page = self._context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda one: self.problems.append(one.text) if "Content Security" in one.text else None)
        self.page.on(
            "request",
            lambda one: None if one.url.startswith((self._address, "data:")) else self.problems.append(one.url),
        )
        self.page.goto(f"{self._address}/r/{self.rater.token}")

    def close(self) -> None:
        self._context.close()

    def begin(self, language: str) -> None:
        self.page.get_by_role("button", name={"zh": "中文", "en": "English"}[language]).click()
        self.page.fill("input[name=name]", f"a rater in {language}")
        self.page.click("#start")

    @property
    def done(self) -> bool:
        return self.page.locator("#answer, #continue").count() == 0

    def answer(self, choice: str) -> None:
        """Answers as people do: keys on a computer, a tap on a phone; then reads on."""
        self.page.wait_for_timeout(300)  # an answer within a quarter of a second is taken for a double click
        number = self.page.locator(".count").inner_text()
        if self.phone:
            self.page.tap(f"#answer [value={choice}]")
        else:
            self.page.keyboard.press({"left": "1", "same": "ArrowDown", "right": "3"}[choice])
        self.page.wait_for_function(
            "before => !document.querySelector('#answer') || document.querySelector('.count').innerText != before",
            arg=number,
        )
        self.given.append(choice)
        if self.page.locator("#continue").count():
            self.page.click("#continue")


def test_two_raters_a_killed_browser_and_a_killed_server(make_study: Any, serve: Serve, browser: Any):
    database: Database = make_study(count=20, check_every=10, each=2, size=64)
    server = serve(database.place)
    first, second = Raters(database).invite(2)
    desk, phone = Person(browser, server.address, first), Person(browser, server.address, second, phone=True)
    desk.begin("en")
    phone.begin("zh")
    choices = ["left", "right", "same", "right"]
    for turn in range(first.questions):
        for person in (desk, phone):
            if turn == 9:
                assert person.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            person.answer(choices[(turn + person.phone) % 4])
        if turn == 13:  # the phone dies; its owner goes on at a desk, and later on a phone again
            phone.close()
            phone.phone = False
            phone.open()
        if turn == 20:
            phone.close()
            phone.phone = True
            phone.open()
        if turn in (5, 17, 30):  # the server dies between answers, once with a page reloaded meanwhile
            server.kill()
            server.start()
        if turn == 30:
            desk.page.reload()
            desk.page.go_back()
            desk.page.goto(f"{server.address}/r/{first.token}")
    assert desk.done and phone.done and not desk.problems + phone.problems
    server.kill()
    found = answers.read(Database(database.place))
    for person in (desk, phone):
        mine = [one for one in found if one.rater == person.rater.number]
        assert [one.question for one in mine] == list(range(person.rater.questions)), "lost, or doubled"
        assert [one.choice for one in mine] == person.given
        assert {one.changes for one in mine} == {0} and all(one.milliseconds for one in mine)
    assert {one.language for one in found if one.rater == 1} == {"zh"}


def test_the_server_dies_while_an_answer_is_on_its_way(make_study: Any, serve: Serve, browser: Any):
    """It is not stored, so the personal link leads to the same question."""
    database: Database = make_study(practice=False, check_every=0)
    server = serve(database.place)
    person = Person(browser, server.address, Raters(database).invite(1)[0])
    person.begin("en")
    person.page.wait_for_timeout(300)
    server.kill()
    person.page.click("#answer [value=right]", no_wait_after=True)
    person.page.wait_for_timeout(1000)  # the browser shows its own error
    server.start()
    person.page.goto(f"{server.address}/r/{person.rater.token}")
    person.answer("right")
    person.page.wait_for_timeout(300)
    # A double click answers one question.
    person.page.dblclick("#answer [value=left]")
    person.page.get_by_text("3 / ").wait_for()
    server.kill()
    assert [(one.question, one.choice) for one in answers.read(Database(database.place))] == [(0, "right"), (1, "left")]


def test_pictures_are_enlarged_and_answers_changed(make_study: Any, serve: Serve, browser: Any):
    database: Database = make_study(practice=False)
    server = serve(database.place)
    person = Person(browser, server.address, Raters(database).invite(1)[0])
    person.begin("en")
    person.page.locator(".pictures a").first.click()
    assert person.page.locator("#large").is_visible()
    person.page.keyboard.press("1")
    person.page.keyboard.press("Escape")
    assert not person.page.locator("#large").is_visible() and person.page.locator(".count").inner_text()[0] == "1"
    person.answer("left")
    person.page.keyboard.press("Backspace")
    person.page.wait_for_selector("[aria-pressed=true]")
    person.answer("same")
    server.kill()
    (answer,) = answers.read(Database(database.place))
    assert (answer.choice, answer.changes) == ("same", 1) and not person.problems
