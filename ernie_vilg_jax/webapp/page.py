"""The gradio page: what its buttons do. It uses no network here: no fonts, scripts or statistics.

`Page.generate` gets its inputs as the JSON that was sent (`preprocess=False`). Limits in the page only bind the page;
`request.read_request` checks every caller.
"""

import html
import logging
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import gradio as gr
from gradio.themes import Default
from starlette.middleware import Middleware

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sampling_params import DEFAULTS
from ernie_vilg_jax.templates import asset, render
from ernie_vilg_jax.webapp import links
from ernie_vilg_jax.webapp.files import written
from ernie_vilg_jax.webapp.guard import BODY_LIMIT, Guard
from ernie_vilg_jax.webapp.layout import FIRST_IMAGES, TITLE, Components, lay_out
from ernie_vilg_jax.webapp.request import EXTRAS, FIELDS, Request, read_request
from ernie_vilg_jax.webapp.worker import Update, Worker

__all__ = ["FIRST_IMAGES", "Page"]

KEPT_SECONDS = 3600
"""How long images stay on the server's disk, from which the page fetches them."""
FONTS = ("system-ui", "Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", "sans-serif")
STOPPED = "Stopped · 已停止"

log = logging.getLogger(__name__)


class Page:
    """A page for a worker."""

    def __init__(
        self, worker: Worker, queue_size: int, translate: Callable[[str], str] = str, *, client_queue_size: int = 0
    ) -> None:
        """Builds the page; `translate` is applied to prompts first.

        `queue_size` requests may wait, `client_queue_size` of one client (0: as many as of all).
        """
        self.worker = worker
        self.translate = translate
        self.client_queue_size = client_queue_size
        with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(KEPT_SECONDS // 4, KEPT_SECONDS)) as blocks:
            self.components = lay_out(worker.choices)
            self._connect(blocks, self.components)
        self.blocks = blocks
        # Closed: an address that skips the queue would let anyone start any number of requests at once.
        self.blocks.queue(max_size=queue_size, api_open=False, default_concurrency_limit=1)

    def launch(self, host: str, port: int, *, share: bool = False) -> str:
        """Serves the page from its own threads, and returns its address. UserError if the port is taken."""
        fonts = [*FONTS]
        functions = {number: len(function.inputs) for number, function in self.blocks.fns.items()}
        names = {str(function.api_name): len(function.inputs) for function in self.blocks.fns.values()}
        # Two images as PNGs in base64, each hardly larger than its pixels.
        pixels = max(size.height * size.width for size in self.worker.choices.sizes)
        limit = BODY_LIMIT + 2 * (4 * pixels * 4 // 3 + 1024)
        guard = Middleware(
            Guard,
            values={**functions, **names},
            waiting=self._waiting,
            share=self.client_queue_size,
            limit=limit,
            status=lambda: self.worker.status,
        )
        try:
            _, address, public = self.blocks.launch(
                server_name=host,
                server_port=port,
                share=share,
                prevent_thread_lock=True,
                quiet=True,
                show_error=True,
                max_file_size=BODY_LIMIT,
                app_kwargs={"middleware": [guard], "docs_url": None, "redoc_url": None},
                ssr_mode=False,
                mcp_server=False,
                enable_monitoring=False,
                footer_links=[],
                theme=Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
                css=asset("app.css"),
                head=f"<script>{asset('app.js')}</script>",
            )
        except OSError as error:
            raise UserError(
                f"--port={port} on --host={host} cannot be used, it may be taken; choose another, such as "
                f"--port={port % 65535 + 1}"
            ) from error
        return public or address

    def _waiting(self, client: str) -> int:
        """Requests in the queue from an address."""
        # gradio has no public way to its queue.
        queues = self.blocks._queue.event_queue_per_concurrency_id.values()  # pyright: ignore[reportPrivateUsage]
        events = [event for queue in queues for event in queue.queue]
        return sum(event.request.client is not None and event.request.client.host == client for event in events)

    def generate(self, *values: Any) -> Iterator[tuple[Any, str, Any]]:
        """Yields the values of the gallery, the note and the seed field. Every failure is one sentence."""
        try:
            given = dict(zip(self.components.inputs, values, strict=False))
            request = read_request(self.worker.choices, given.pop("prompt", None), translate=self.translate, **given)
            yield None, _bar(Update(0, request.params.steps, waits="Starting…")), request.params.seed
            for update in self.worker.make(request):
                if update.done:
                    with written(update.images, request.enlarge) as paths:
                        yield paths, self._note(request), request.params.seed
                else:
                    yield update.images or gr.skip(), _bar(update), gr.skip()
        except UserError as error:
            # gradio shows the message as HTML.
            raise gr.Error(html.escape(f"{error}".rstrip(".") + "."), print_exception=False) from error
        except Exception as error:
            log.exception("a request failed")
            message = "Something went wrong on the server; its log says what. Other settings may work."
            raise gr.Error(message, print_exception=False) from error

    def _note(self, request: Request) -> str:
        return render(
            "note.html",
            prompt=request.prompt,
            params=request.params,
            rerank=request.rerank,
            link=links.query_of(request.told()),
            cut_off=self.worker.cut_off(request),
            never_seen=self.worker.never_seen(request),
        )

    def restore(self, request: gr.Request) -> list[Any]:
        """The values of the inputs that the page's address has in its query; the others stay."""
        query = dict(request.query_params or {})
        names = self.components.restored
        kinds = {name: type(DEFAULTS.get(name, "")) for name in names}
        kinds |= {"num_images": int, "seed": int, "candidates": int, "enlarge": int, "negative_prompt": str}
        kinds.pop("random_seed", None)
        found = links.values_of(query, kinds)
        try:
            read_request(self.worker.choices, found.pop("prompt", "") or "a", **found)
        except UserError:
            found = {}
        prompt = query.get("prompt", "")[:2000] if query else ""
        values = {
            **found,
            **({"prompt": prompt} if prompt else {}),
            **({"random_seed": False} if "seed" in found else {}),
        }
        return [values.get(name, gr.skip()) for name in names]

    def _connect(self, blocks: gr.Blocks, parts: Components) -> None:
        """Says what happens at each event."""
        inputs, note = [*parts.inputs.values()], parts.note
        assert [*parts.inputs][-len(FIELDS) - len(EXTRAS) :] == [*FIELDS, *EXTRAS]
        event = gr.on(
            [parts.go.click, parts.inputs["prompt"].submit],
            self.generate,
            inputs,
            [parts.gallery, note, parts.inputs["seed"]],
            js="(...values) => window.ernieValues(...values)",
            preprocess=False,
            api_name="generate",
            show_progress="minimal",
            show_progress_on=note,
            trigger_mode="once",
            concurrency_limit=1,
        )
        parts.stop.click(lambda: STOPPED, None, note, cancels=[event], queue=False, api_visibility="private")
        restored = [parts.inputs[name] for name in parts.restored]
        blocks.load(self.restore, None, restored, queue=False, show_progress="hidden", api_visibility="private")


def _bar(update: Update) -> str:
    """The progress of a request, and which expert makes which of its steps."""
    text = f"Step {update.step} of {update.steps}" if update.step else update.waits
    each = len(update.stages)
    here = (update.step - 1) % each + 1 if each and update.step else 0  # several batches: each has all the steps
    parts, begun = [], 0
    for stage, run in groupby(update.stages):
        steps = len(list(run))
        done = min(max(here - begun, 0), steps)
        state = "now" if begun < here <= begun + steps else ""
        parts.append({"stage": stage, "steps": steps, "done": 100 * done / steps, "state": state})
        begun += steps
    return render("progress.html", step=update.step, steps=update.steps, text=text, timeline=parts)
