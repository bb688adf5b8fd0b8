"""The pages as responses: words, templates, redirects and cookies."""

import hashlib
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from ernie_vilg_jax.evaluation.study.raters import Question, Rater
from ernie_vilg_jax.tables import ASSETS, rows
from ernie_vilg_jax.templates import render

WORDS = {
    language: {row[0]: row[column] for row in rows("study/words.tsv")}
    for column, language in enumerate(("en", "zh"), 1)
}
STATIC = {"study.css": "text/css", "study.js": "text/javascript"}


class Site:
    """Pages as HTML, with what all of them need."""

    def __init__(self, settings: dict[str, Any], public_url: str) -> None:
        self.settings = settings
        self.address = public_url.rstrip("/")
        self.base = urlsplit(self.address).path
        self.secure = self.address.startswith("https:")
        self.static = {name: (ASSETS / "study" / name).read_bytes() for name in STATIC}
        self._version = hashlib.sha256(b"".join(self.static.values())).hexdigest()[:8]

    def page(self, template: str, language: str, *, status: int = 200, title: str = "", **values: Any) -> HTMLResponse:
        """A page in a language."""
        words = WORDS[language]
        title = title or self.settings["title"] or words["title"]
        known = {"base": self.base, "version": self._version, "language": language, "words": words, "title": title}
        return HTMLResponse(render(template, **known, **values), status)

    def message(
        self, language: str, *lines: str, status: int = 200, action: str = "", button: str = "", title: str = ""
    ):
        """A page of a few sentences, and a button if there is an `action`."""
        values = {"lines": lines, "action": action, "button": button}
        return self.page("study_message.html", language, status=status, title=title, **values)

    def question(self, rater: Rater, question: Question) -> HTMLResponse:
        """The page of a question, or of the feedback on an example."""
        words = WORDS[rater.language]
        first = sorted(question.texts.items(), key=lambda pair: pair[0] != rater.language)
        feedback = ""
        if question.kind == "practice" and question.choice:
            right = question.choice == question.expected
            feedback = words["right_answer"] if right else words["other_answer"] % words[question.expected]
        values = {"token": rater.token, "total": rater.questions, "texts": dict(first), "feedback": feedback}
        return self.page("study_question.html", rater.language, question=question, **values)

    def to(self, path: str) -> RedirectResponse:
        """To another page, by GET."""
        return RedirectResponse(f"{self.base}{path}", 303)

    def keep(self, response: Response, name: str, value: str) -> Response:
        """Sets a cookie for a year, for this study alone."""
        response.set_cookie(
            name, value, 365 * 86400, path=self.base or "/", secure=self.secure, httponly=True, samesite="strict"
        )
        return response


def language_of(request: Request) -> str:
    """The language of the pages before a rater has chosen."""
    return "zh" if request.headers.get("accept-language", "").lower().startswith("zh") else "en"
