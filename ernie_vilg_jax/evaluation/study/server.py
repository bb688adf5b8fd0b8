"""The pages of a study over HTTP: for raters by their personal links, and for the owner by the secret.

What comes in a URL or a form is looked up in the database and reaches nothing else: no path of the disk is made of it.
Nothing is logged of requests, because personal links are in them.
"""

import hmac
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Annotated, Any
from urllib.parse import parse_qs

import uvicorn
from absl import logging
from fastapi import Depends, FastAPI, HTTPException, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException as AnyHTTPException

from ernie_vilg_jax import texts
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.study import answers, overview, report
from ernie_vilg_jax.evaluation.study.database import Database
from ernie_vilg_jax.evaluation.study.pages import STATIC, WORDS, Site, language_of
from ernie_vilg_jax.evaluation.study.raters import Rater, Raters

FORM_LIMIT = 8192
"""Bytes."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
    "Cache-Control": "no-store",
}
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
ADMIN, RATER = "study_admin", "study_rater"
"""Names of cookies."""

Form = dict[str, str]
Number = Annotated[int, Path(ge=0, le=1_000_000)]


async def read_form(request: Request) -> Form:
    """The fields of a form, each once. A large body is refused before it is read."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > FORM_LIMIT:
            raise HTTPException(413)
    try:
        found = parse_qs(body.decode("ascii"), errors="strict", max_num_fields=20, keep_blank_values=True)
    except ValueError as error:
        raise HTTPException(400) from error
    return {name: values[0] for name, values in found.items()}


Sent = Annotated[Form, Depends(read_form)]


def find(token: str, request: Request) -> Rater:
    """The rater of the personal link that is asked for."""
    rater = request.app.state.raters.find(token) if not texts.fault(token) else None
    if rater is None:
        raise HTTPException(404)
    return rater


Who = Annotated[Rater, Depends(find)]


def _whole(form: Form, name: str) -> int | None:
    """A whole number of a form that fits a database; None for anything else."""
    value = form.get(name, "")
    return int(value) if re.fullmatch("-?[0-9]{1,9}", value) else None


class Gate:
    """Adds `HEADERS` to every response that does not have its own of that name, and knows the prefix of a proxy."""

    def __init__(self, app: Any, base: str) -> None:
        self._app, self._base = app, base

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """ASGI."""

        async def protected(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                new = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in new if pair[0] not in there)]
            await send(message)

        await self._app({**scope, "root_path": self._base}, receive, protected)


def make_app(database: Database, public_url: str) -> FastAPI:
    """The application.

    Args:
      public_url: the address that raters type; its path, if any, is the prefix that a proxy serves it under. The proxy
        may remove the prefix or pass it on.
    """
    raters = Raters(database)
    site = Site(raters.settings, public_url)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.raters = raters
    app.add_middleware(Gate, base=site.base)
    _add_errors(app, site)
    _add_raters(app, site, raters)
    _add_admin(app, site, raters, database)

    @app.get("/")
    def home(request: Request) -> Response:
        language = language_of(request)
        return site.message(language, WORDS[language]["home"])

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in site.static:
            raise HTTPException(404)
        return Response(site.static[name], media_type=STATIC[name], headers=FOREVER)

    @app.get("/p/{id}")
    def picture(id: str) -> Response:
        data = raters.picture(id) if not texts.fault(id) else None
        if data is None:
            raise HTTPException(404)
        return Response(data, media_type="image/webp", headers=FOREVER)

    return app


def _add_errors(app: FastAPI, site: Site) -> None:
    @app.exception_handler(RequestValidationError)
    @app.exception_handler(UserError)
    def invalid(request: Request, error: Exception) -> Response:
        return site.message(language_of(request), WORDS[language_of(request)]["invalid"], status=400)

    @app.exception_handler(AnyHTTPException)
    def refused(request: Request, error: AnyHTTPException) -> Response:
        name = "not_found" if error.status_code in (404, 405) else "invalid"
        return site.message(language_of(request), WORDS[language_of(request)][name], status=error.status_code)

    @app.exception_handler(Exception)
    def failed(request: Request, error: Exception) -> Response:
        response = site.message(language_of(request), WORDS[language_of(request)]["failed"], status=500)
        response.headers.update(HEADERS)  # this one is made outside of the middleware
        return response


def _add_raters(app: FastAPI, site: Site, raters: Raters) -> None:
    def after(rater: Rater) -> Response:
        return site.to(f"/r/{rater.token}" + (f"/{rater.answered}" if rater.answered < rater.questions else ""))

    def known_by(request: Request) -> Rater | None:
        """The rater of this browser's cookie."""
        token = request.cookies.get(RATER, "")
        return None if texts.fault(token) else raters.find(token)

    @app.get("/join/{code}")
    def invitation(code: str, request: Request) -> Response:
        check(code)
        known = known_by(request)
        if known is not None:
            return site.to(f"/r/{known.token}")
        words = WORDS[language_of(request)]
        action = f"{site.base}/join/{code}"
        return site.message(language_of(request), words["join_note"], action=action, button=words["join"])

    @app.post("/join/{code}")
    def join(code: str, request: Request) -> Response:
        check(code)
        known = known_by(request)
        rater = known or raters.join()
        if rater is None:
            return site.message(language_of(request), WORDS[language_of(request)]["full"], status=403)
        if known is None:
            raters.speak(rater, language_of(request))
        return site.keep(site.to(f"/r/{rater.token}"), RATER, rater.token)

    def check(code: str) -> None:
        if not site.settings["most_raters"] or not hmac.compare_digest(code.encode(), site.settings["join"].encode()):
            raise HTTPException(404)

    @app.get("/r/{token}")
    def current(rater: Who) -> Response:
        if not rater.started:
            return site.page("study_welcome.html", rater.language, token=rater.token, name=rater.name)
        if rater.answered >= rater.questions:
            words = WORDS[rater.language]
            return site.message(rater.language, words["done_note"], title=words["done"])
        return after(rater)

    @app.post("/r/{token}/start")
    def start(rater: Who, form: Sent) -> Response:
        name = " ".join(form.get("name", "").split())[:80]
        if texts.fault(name):
            raise HTTPException(400)
        raters.start(rater, name, form["language"] if form.get("language") in WORDS else rater.language)
        return after(rater)

    @app.post("/r/{token}/language")
    def speak(rater: Who, form: Sent) -> Response:
        if form.get("language") in WORDS:
            raters.speak(rater, form["language"])
        return site.to(f"/r/{rater.token}")

    @app.get("/r/{token}/{number}")
    def show(rater: Who, number: Number) -> Response:
        question = raters.question(rater, number) if rater.started else None
        return site.to(f"/r/{rater.token}") if question is None else site.question(rater, question)

    @app.post("/r/{token}/{number}")
    def answer(rater: Who, number: Number, form: Sent) -> Response:
        seen = _whole(form, "seen")
        if seen is None:
            raise HTTPException(400)
        question = raters.answer(
            rater, number, form.get("choice", ""), seen=seen, milliseconds=_whole(form, "milliseconds")
        )
        if question.kind == "practice":
            return site.to(f"/r/{rater.token}/{number}")  # the feedback
        return after(rater._replace(answered=max(rater.answered, number + 1)))


def _add_admin(app: FastAPI, site: Site, raters: Raters, database: Database) -> None:
    def right(secret: str) -> bool:
        return hmac.compare_digest(secret.encode(errors="replace"), site.settings["secret"].encode())

    def owner(request: Request) -> None:
        if not right(request.cookies.get(ADMIN, "")):
            raise HTTPException(404)

    owned = [Depends(owner)]

    @app.get("/admin")
    def admin(request: Request) -> Response:
        if not right(request.cookies.get(ADMIN, "")):
            return site.page("study_login.html", "en", wrong=False)
        return site.page("study_admin.html", "en", **overview.overview(raters, answers.read(database), site.address))

    @app.post("/admin/login")
    def login(form: Sent) -> Response:
        if not right(form.get("secret", "")):
            return site.page("study_login.html", "en", wrong=True, status=403)
        return site.keep(site.to("/admin"), ADMIN, form["secret"])

    @app.post("/admin/logout", dependencies=owned)
    def logout() -> Response:
        return site.keep(site.to("/admin"), ADMIN, "")

    @app.post("/admin/invite", dependencies=owned)
    def invite(form: Sent) -> Response:
        raters.invite(min(max(_whole(form, "count") or 1, 1), 100))
        return site.to("/admin")

    @app.get("/admin/report", dependencies=owned)
    def show_report() -> Response:
        page = report.page(report.tables(answers.read(database), answers.models(database)), site.settings["title"])
        # Its style is inside it, because it is also a file that stands alone; there is no script in it.
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    @app.get("/admin/answers.{kind}", dependencies=owned)
    def export(kind: str) -> Response:
        if kind not in answers.WRITERS:
            raise HTTPException(404)
        return Response(answers.WRITERS[kind](answers.read(database)), media_type="text/plain; charset=utf-8")


def serve(database: Database, host: str, port: int, public_url: str) -> None:
    """Serves a study until it is interrupted."""
    logging.info("open %s/admin in a browser; Ctrl-C ends the server, and loses nothing", public_url.rstrip("/"))
    uvicorn.run(
        make_app(database, public_url),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,  # it would hold the personal links
        server_header=False,
        timeout_keep_alive=75,  # seconds; people look longer than the default of five before they answer
    )
