"""Refuses requests that gradio would accept or answer with a traceback: large bodies, files, values of other types, and
one client's requests beyond its share of the queue. An ASGI middleware (https://asgi.readthedocs.io)."""

import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

BODY_LIMIT = 64 * 1024
"""Bytes of a request without images: two prompts of 2,000 characters, each written as \\uXXXX escapes, fit easily."""
DRAIN_LIMIT = 64 * 1024 * 1024
"""Bytes that are read and discarded so that the sender gets an answer; a larger body is cut off."""
BUSY = "The demo is busy: too many people are waiting. Please try again in a minute."
SHARE = "{} of your requests are waiting already. Please wait for one of them, or stop it."

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

log = logging.getLogger(__name__)


class Guard:
    """Answers 413 to bodies above `BODY_LIMIT`, 403 to uploads, 422 to values that are not those of the page, 429 to a
    client with too many waiting requests; rewords gradio's 503 (queue full).

    Failures inside gradio are also answered with a sentence.
    """

    def __init__(
        self,
        app: App,
        *,
        values: Mapping[str | int, int],
        waiting: Callable[[str], int] = lambda client: 0,
        share: int = 0,
        limit: int = BODY_LIMIT,
        status: Callable[[], str] = str,
    ) -> None:
        """Guards an app.

        Args:
          values: a function's number or API name -> number of its values.
          waiting: a client's address -> number of its requests in the queue.
          share: most requests of one client that may wait; 0 is no limit.
          limit: bytes of a request.
          status: what all visitors wait for, told at the address /status.
        """
        self.limit, self.status = limit, status
        self.app, self.values, self.waiting, self.share = app, values, waiting, share
        self._joining: Counter[str] = Counter()
        """Requests of each client that are about to enter the queue."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "GET" and scope["path"].rstrip("/") == "/status":
            await _answer(send, 200, self.status(), name="status")
            return
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._pass_on(scope, receive, send)
            return
        body, size = await _read(receive, self.limit)
        if size > self.limit:
            await _answer(send, 413, f"The request is larger than {self.limit // 1024} KiB.")
            return
        if scope["path"].rstrip("/").endswith("/upload"):
            await _answer(send, 403, "This page takes no files.")
            return
        if fault := self._fault(scope["path"], body):
            await _answer(send, 422, fault)
            return
        client = (scope.get("client") or ("",))[0]
        if not self.share or not _joins(scope["path"]):
            await self._pass_on(scope, _replay(body, receive), send)
        elif self.waiting(client) + self._joining[client] >= self.share:
            await _answer(send, 429, SHARE.format(self.share))
        else:
            self._joining[client] += 1
            try:
                await self._pass_on(scope, _replay(body, receive), send)
            finally:
                self._joining[client] -= 1
                self._joining += Counter()  # drops zeros

    def _fault(self, path: str, body: bytes) -> str:
        """What is wrong with the values in a request; "" if nothing, or if gradio refuses it by itself."""
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            return ""
        data = content.get("data") if isinstance(content, dict) else None
        if not isinstance(data, list):
            return ""
        if not all(value is None or isinstance(value, str | int | float) for value in data):
            return "Values must be text, numbers, true or false; this page takes no lists, objects or files."
        name = path.rstrip("/").rpartition("/")[2]
        key = content.get("fn_index") if name == "join" else name
        wanted = self.values.get(key) if isinstance(key, str | int) else None
        if wanted is not None and len(data) != wanted:
            return f"The page sends {wanted} values, and this request has {len(data)}."
        return ""

    async def _pass_on(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
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


def _joins(path: str) -> bool:
    """Whether a POST to the path enters the queue."""
    return path.rstrip("/").endswith("/queue/join") or "/call/" in path


async def _read(receive: Receive, limit: int) -> tuple[bytes, int]:
    """The body, empty if it is too large, and the number of bytes received."""
    parts, size, more = [], 0, True
    while more and size <= DRAIN_LIMIT:
        message = await receive()
        if message["type"] != "http.request":  # the sender disconnected
            break
        part = message.get("body", b"")
        size += len(part)
        if size <= limit:
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


async def _answer(send: Send, status: int, detail: str, name: str = "detail") -> None:
    body = json.dumps({name: detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status in (429, 503):
        headers.append((b"retry-after", b"30"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
