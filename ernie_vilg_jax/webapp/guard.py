"""Refuses large bodies and files before gradio reads them. An ASGI middleware (https://asgi.readthedocs.io)."""

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

BODY_LIMIT = 64 * 1024
"""Bytes of a request: two prompts of 2,000 characters, each written as \\uXXXX escapes, fit easily."""
DRAIN_LIMIT = 64 * 1024 * 1024
"""Bytes that are read and discarded so that the sender gets an answer; a larger body is cut off."""
BUSY = "The demo is busy: too many people are waiting. Please try again in a minute."

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)


class Guard:
    """Answers 413 to bodies above `BODY_LIMIT` and 403 to uploads, and rewords gradio's 503 (queue full).

    Failures inside gradio are also answered with a sentence.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            body, size = await _read(receive)
            if size > BODY_LIMIT:
                await _answer(send, 413, f"The request is larger than {BODY_LIMIT // 1024} KiB.")
                return
            if scope["path"].rstrip("/").endswith("/upload"):
                await _answer(send, 403, "This page takes no files.")
                return
            receive = _replay(body, receive)
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, _polite(noted))
        except Exception as error:
            # One log line, no traceback: gradio raises for an unknown function, for example, which anyone can request.
            log.warning("no answer to %s %s: %r", scope["method"], scope["path"][:200], error)
            if not started:
                await _answer(send, 500, "The server cannot answer this request; is its address right?")


async def _read(receive: Receive) -> tuple[bytes, int]:
    """The body, empty if it is too large, and the number of bytes received."""
    parts, size, more = [], 0, True
    while more and size <= DRAIN_LIMIT:
        message = await receive()
        if message["type"] != "http.request":  # the sender disconnected
            break
        part = message.get("body", b"")
        size += len(part)
        if size <= BODY_LIMIT:
            parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts), size


def _replay(body: bytes, receive: Receive) -> Receive:
    """`receive` of a request whose body has already been read."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


def _polite(send: Send) -> Send:
    """`send` that replaces the body of a 503."""
    busy = False

    async def sent(message: Message) -> None:
        nonlocal busy
        if message["type"] == "http.response.start" and message["status"] == 503:
            busy = True
            await _answer(send, 503, BUSY)
        elif not busy:
            await send(message)

    return sent


async def _answer(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 503:
        headers.append((b"retry-after", b"30"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
