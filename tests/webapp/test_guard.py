"""Requests that are refused before gradio reads them."""

import asyncio
import json
from typing import Any

import pytest

from ernie_vilg_jax.webapp.guard import BODY_LIMIT, BUSY, Guard


def ask(path: str, parts: list[bytes], status: int = 200) -> tuple[int, bytes, list[bytes]]:
    """Status and body of the response to a POST in `parts`, and the bodies that passed the guard."""
    passed: list[bytes] = []
    sent: list[Any] = []
    left = [{"type": "http.request", "body": part, "more_body": i + 1 < len(parts)} for i, part in enumerate(parts)]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        passed.append(message["body"])
        assert not message["more_body"] and (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async def receive() -> Any:
        return left.pop(0) if left else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Guard(app, values={})({"type": "http", "method": "POST", "path": path}, receive, send))
    return sent[0]["status"], b"".join(message["body"] for message in sent[1:]), passed


def test_small_bodies_pass_whole():
    assert ask("/queue/join", [b"{", b"}"]) == (200, b"onetwo", [b"{}"])
    assert ask("/queue/join", [b"x" * BODY_LIMIT])[2] == [b"x" * BODY_LIMIT]


@pytest.mark.parametrize(
    "parts", [[b"x" * (BODY_LIMIT + 1)], [b"x" * 1000] * 10_000], ids=["at once", "10 MB in parts"]
)
def test_large_bodies_do_not_pass_however_they_come(parts: list[bytes]):
    status, body, passed = ask("/queue/join", parts)
    assert status == 413 and json.loads(body) == {"detail": "The request is larger than 64 KiB."} and not passed


def test_files_are_refused():
    assert ask("/gradio_api/upload", [b"file"])[0] == 403 and not ask("/gradio_api/upload/", [b""])[2]


def test_a_full_queue_is_a_polite_answer():
    status, body, _ = ask("/queue/join", [b"{}"], status=503)
    assert status == 503 and json.loads(body) == {"detail": BUSY}


def test_a_failure_is_a_sentence_without_traceback():
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("secret")

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Guard(app, values={})({"type": "http", "method": "POST", "path": "/call/nothing"}, receive, send))
    assert sent[0]["status"] == 500 and b"cannot answer" in sent[1]["body"] and b"secret" not in sent[1]["body"]
