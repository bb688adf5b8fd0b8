"""The pages as HTTP: what raters do, and what they could try."""

import json
import re
from collections.abc import Callable

import pytest

pytest.importorskip("fastapi", reason="the pages need the extra `study`")

from fastapi.testclient import TestClient

from ernie_vilg_jax.evaluation.study import answers
from ernie_vilg_jax.evaluation.study.database import Database
from ernie_vilg_jax.evaluation.study.raters import Rater, Raters
from ernie_vilg_jax.evaluation.study.server import FORM_LIMIT, HEADERS, make_app

Make = Callable[..., Database]


class Visit:
    """A browser at a study with one started rater."""

    def __init__(self, database: Database, url: str = "http://testserver") -> None:
        self.database = database
        self.raters = Raters(database)
        (self.rater,) = self.raters.invite(1)
        self.client = TestClient(make_app(database, url), base_url="http://testserver", follow_redirects=False)
        self.own = f"/r/{self.rater.token}"
        self.raters.start(self.rater, "", "en")

    def answer(self, number: int, choice: str = "left", **form: object):
        return self.client.post(f"{self.own}/{number}", data={"choice": choice, "seen": -1, **form})

    def stored(self) -> list[tuple[int, str]]:
        return [(one.question, one.choice) for one in answers.read(self.database)]

    def log_in(self) -> None:
        self.client.post("/admin/login", data={"secret": self.raters.settings["secret"]})


@pytest.fixture
def visit(make_study: Make) -> Visit:
    return Visit(make_study())


def test_a_whole_visit_by_what_the_pages_offer(make_study: Make):
    """Only the links and forms of the pages are used, as a browser without JavaScript would."""
    database = make_study(each=2)
    (rater,) = Raters(database).invite(1)
    client = TestClient(make_app(database, "http://testserver"), base_url="http://testserver")
    page = client.get(f"/r/{rater.token}", headers={"accept-language": "zh-CN"})
    assert "Which images are better?" in page.text and 'value="zh"' in page.text
    page = client.post(f"/r/{rater.token}/language", data={"language": "zh"})
    assert "哪一组图片更好？" in page.text
    page = client.post(f"/r/{rater.token}/start", data={"name": " A <b>B ", "language": "zh"})
    for _ in range(200):
        if "全部完成" in page.text:
            break
        if 'id="continue"' in page.text:
            page = client.get(re.findall(r'id="continue" href="([^"]+)"', page.text)[0])
            continue
        form = re.findall(r'action="(/r/[^"]+/\d+)"', page.text)[0]
        assert all(
            client.get(id).headers["content-type"] == "image/webp" for id in re.findall(r'src="(/p/[^"]+)"', page.text)
        )
        seen = re.findall(r'name="seen" value="([^"]+)"', page.text)[0]
        page = client.post(form, data={"choice": "same", "seen": seen, "milliseconds": ""})
    found = answers.read(database)
    assert len(found) == len({one.question for one in found}) == Raters(database).all()[0].questions
    assert {one.language for one in found} == {"zh"} and Raters(database).all()[0].name == "A <b>B"


def test_every_page_is_protected(visit: Visit):
    visit.log_in()
    pages = ["/", visit.own, f"{visit.own}/0", "/admin", "/static/study.css", "/none", "/p/none", "/admin/answers.csv"]
    for path in pages:
        headers = visit.client.get(path).headers
        assert {name.lower() for name in HEADERS} <= set(headers), path
        assert "unsafe" not in headers["content-security-policy"] and "server" not in headers
    html = visit.client.get(f"{visit.own}/0").text
    assert not re.search(r"<script(?! src=)|\son\w+=|style=", html), "the page has what its policy forbids"


def test_scripts_in_prompts_and_names_are_text(make_study: Make):
    visit = Visit(make_study(check_every=0, practice=False))
    visit.client.post(f"{visit.own}/start", data={"name": '"><script>alert(2)</script>', "language": "en"})
    seen = ""
    for number in range(visit.rater.questions):
        seen += visit.client.get(f"{visit.own}/{number}").text
        visit.answer(number)
    visit.log_in()
    seen += visit.client.get("/admin").text + visit.client.get("/admin/report").text
    assert "&lt;script&gt;alert(1)" in seen and "&lt;img src=x" in seen and "alert(2)" in seen
    assert not re.search(r"<script>|<img src=x", seen)


def test_no_page_says_which_model_made_a_picture(make_study: Make):
    visit = Visit(make_study(check_every=2))
    for number in range(visit.rater.questions):
        page = visit.client.get(f"{visit.own}/{number}")
        assert not re.search("ours|theirs|check|expected", page.text)
        visit.answer(number)


@pytest.mark.parametrize(
    "path",
    [
        "/p/..%2f..%2fetc%2fpasswd", "/p/../../etc/passwd", "/p/%2e%2e/%2e%2e/etc/passwd", "/p/study.db", "/p/%00",
        "/static/../study.db", "/static/..%2fwords.tsv", "/static/words.tsv", "/static//etc/passwd",
        "/r/%00", "/r/..%2f", "/r/' OR 1=1 --", "/r/", "/admin/answers.db", "/docs", "/openapi.json",
        "/join/x", "/admin/answers.csv", "/admin/report",
    ],
)  # fmt: skip
def test_paths_lead_nowhere_else(visit: Visit, path: str):
    answer = visit.client.get(path)
    assert answer.status_code == 404 and "root:" not in answer.text and "Traceback" not in answer.text


def test_forged_ids_find_nothing(visit: Visit, make_study: Make):
    (other,) = visit.raters.invite(1)
    for token in (visit.rater.token[:-1], visit.rater.token + "x", "0", "1", other.token.swapcase()):
        assert visit.client.get(f"/r/{token}").status_code == 404
        assert visit.client.post(f"/r/{token}/0", data={"choice": "left", "seen": -1}).status_code == 404
    for number in ("1", "5", "999999"):
        assert visit.answer(number).status_code == 400  # pyright: ignore[reportArgumentType]
        assert visit.client.get(f"{visit.own}/{number}").headers["location"] == visit.own
    for number in ("-1", "1e3", "99999999999999999999", "x", "0x1", "%00"):
        assert visit.answer(number).status_code in (400, 404)  # pyright: ignore[reportArgumentType]
    assert not visit.stored()


def test_repeated_posts_change_nothing(visit: Visit):
    for choice in ("left", "left", "right"):
        assert visit.answer(0, choice).status_code == 303
    visit.answer(1)
    assert visit.answer(0, "right").headers["location"].endswith("/0")
    assert visit.stored() == [(0, "left"), (1, "left")]


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"choice": "both", "seen": "-1"}, 400), ({"seen": "-1"}, 400), ({"choice": "left"}, 400), ({}, 400),
        ({"choice": "left", "seen": "x"}, 400), ({"choice": "left", "seen": "9" * 400}, 400),
        ({"choice": "left\0", "seen": "-1"}, 400), ({"choice": "left", "seen": "²"}, 400),
        ({"choice": "left", "seen": "-1", "milliseconds": "NaN"}, 303),
        ({"choice": "left", "seen": "-1", "milliseconds": "9" * 400}, 303),
        ({"choice": "left", "seen": "-1", "x": "y" * FORM_LIMIT}, 413),
        ({"choice": "left", "seen": "-1", **{f"x{n}": "" for n in range(50)}}, 400),
    ],
)  # fmt: skip
def test_invalid_forms_are_refused(visit: Visit, form: dict[str, str], status: int):
    answer = visit.client.post(f"{visit.own}/0", data=form)
    assert answer.status_code == status and "Traceback" not in answer.text
    assert len(visit.stored()) == (status == 303)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"choice=%FF&seen=-1", "choice=左&seen=-1".encode(), b"{}"])
def test_bodies_that_are_no_form_are_refused(visit: Visit, body: bytes):
    answer = visit.client.post(f"{visit.own}/0", content=body)
    assert answer.status_code == 400 and not visit.stored()


@pytest.mark.parametrize("name", ["a\0b", "\ud83d".encode("utf-8", "surrogatepass").decode("latin-1"), "x" * 300])
def test_any_name_is_kept_or_refused(visit: Visit, name: str):
    answer = visit.client.post(f"{visit.own}/start", data={"name": name})
    assert answer.status_code in (303, 400) and len(visit.raters.all()[0].name) <= 80


def test_methods_that_pages_do_not_use(visit: Visit):
    for method in ("PUT", "DELETE", "PATCH"):
        assert visit.client.request(method, f"{visit.own}/0").status_code == 405
    assert visit.client.get("/admin/login").status_code == 405


def test_feedback_on_examples(visit: Visit):
    assert visit.answer(0, "right").headers["location"] == f"{visit.own}/0"
    page = visit.client.get(f"{visit.own}/0").text
    assert "Most people would answer differently here: “A is better”" in page and 'id="continue"' in page
    visit.answer(1, "same")
    assert "That is right." in visit.client.get(f"{visit.own}/1").text


def test_going_back_shows_the_answer_and_changes_it(make_study: Make):
    visit = Visit(make_study(practice=False))
    assert visit.answer(0, "right").headers["location"] == f"{visit.own}/1"
    page = visit.client.get(f"{visit.own}/1").text
    assert f'id="back" href="{visit.own}/0"' in page
    page = visit.client.get(f"{visit.own}/0").text
    assert 'value="right" aria-pressed="true"' in page and 'name="seen" value="0"' in page
    assert visit.answer(0, "same", seen=0).headers["location"] == f"{visit.own}/1"
    assert visit.stored() == [(0, "same")]


def test_the_owner_sees_progress_after_the_secret_alone(visit: Visit):
    assert "Secret" in visit.client.get("/admin").text
    for secret in ("", "x", "é", visit.raters.settings["secret"][:-1]):
        assert visit.client.post("/admin/login", data={"secret": secret}).status_code == 403
    for path in ("invite", "logout"):
        assert visit.client.post(f"/admin/{path}", data={"count": 5}).status_code == 404
    assert len(visit.raters.all()) == 1
    for number in range(visit.rater.questions):
        visit.answer(number, milliseconds=2000)
    visit.log_in()
    cookie = next(iter(visit.client.cookies.jar))
    assert cookie.has_nonstandard_attr("HttpOnly") and cookie.path == "/"
    page = visit.client.get("/admin").text
    assert f"{visit.rater.questions} / {visit.rater.questions}" in page and "2.0 s" in page
    assert f"http://testserver{visit.own}" in page and "Only invited raters" in page
    visit.client.post("/admin/invite", data={"count": 2})
    assert len(visit.raters.all()) == 3
    assert visit.client.get("/admin/answers.csv").text.count("\n") == visit.rater.questions + 1
    lines = visit.client.get("/admin/answers.jsonl").text.splitlines()
    assert json.loads(lines[-1])["aspect"] == "fidelity"
    assert "Which model was preferred" in visit.client.get("/admin/report").text
    visit.client.post("/admin/logout")
    assert visit.client.get("/admin/answers.csv").status_code == 404


def test_a_report_of_nothing_is_a_sentence(visit: Visit):
    visit.log_in()
    answer = visit.client.get("/admin/report")
    assert answer.status_code == 400 and "Traceback" not in answer.text


def test_the_open_link_makes_one_rater_per_browser_until_it_is_full(make_study: Make):
    database = make_study(most_raters=2)
    app, raters = make_app(database, "http://testserver"), Raters(database)
    path = f"/join/{raters.settings['join']}"
    first, second, third = (TestClient(app, base_url="http://testserver", follow_redirects=False) for _ in range(3))
    assert first.get(path).status_code == 200 and not raters.all(), "looking at the link made a rater"
    places = {first.post(path).headers["location"] for _ in range(3)}
    assert len(places) == 1 and first.get(path).headers["location"] in places
    assert second.post(path).headers["location"] not in places
    assert third.post(path).status_code == 403 and len(raters.all()) == 2
    assert third.post("/join/wrong").status_code == 404


@pytest.mark.parametrize("stripped", [True, False], ids=["proxy removes the prefix", "proxy passes it on"])
def test_behind_the_path_of_a_proxy(make_study: Make, stripped: bool):
    visit = Visit(make_study(), "https://lab.example/studies/one/")
    prefix = "" if stripped else "/studies/one"
    page = visit.client.get(f"{prefix}{visit.own}/0").text
    links = re.findall(r'(?:href|src|action)="([^"]+)"', page)
    assert len(links) > 6 and all(link.startswith(("/studies/one/", "data:")) for link in links)
    answer = visit.client.post(f"{prefix}{visit.own}/0", data={"choice": "left", "seen": -1})
    assert answer.headers["location"] == f"/studies/one{visit.own}/0"
    picture = next(link for link in links if "/p/" in link)
    assert visit.client.get(picture.removeprefix("/studies/one") if stripped else picture).status_code == 200
    login = visit.client.post(f"{prefix}/admin/login", data={"secret": visit.raters.settings["secret"]})
    assert "Path=/studies/one;" in login.headers["set-cookie"] and "Secure" in login.headers["set-cookie"]


def test_a_failure_is_a_page_without_a_traceback(visit: Visit, monkeypatch: pytest.MonkeyPatch):
    def broken(self: Raters, token: str) -> Rater:
        raise KeyError("detail")

    monkeypatch.setattr(Raters, "find", broken)
    client = TestClient(visit.client.app, raise_server_exceptions=False)
    answer = client.get(visit.own)
    assert answer.status_code == 500 and "Something went wrong" in answer.text and "detail" not in answer.text
    assert "content-security-policy" in answer.headers
