"""The gradio page. The only module that imports gradio. It uses no network here: no fonts, scripts or statistics.

`Page.generate` gets its inputs as the JSON that was sent (`preprocess=False`). Limits in the page only bind the page;
`request.read_request` checks every caller.
"""

import html
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
from gradio.themes import Default
from starlette.middleware import Middleware

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sampling_params import ACCEPTS
from ernie_vilg_jax.templates import render
from ernie_vilg_jax.webapp.guard import BODY_LIMIT, Guard
from ernie_vilg_jax.webapp.options import Choices
from ernie_vilg_jax.webapp.request import (
    FIELDS,
    MOST_IMAGES,
    NO_STYLE,
    PROMPT_LIMIT,
    SEEDS,
    Request,
    limits,
    read_request,
)
from ernie_vilg_jax.webapp.worker import Update, Worker

FIRST_IMAGES = 4
"""Default number of images on the page."""
KEPT_SECONDS = 3600
"""How long images stay on the server's disk, from which the page fetches them."""
TITLE = "ERNIE-ViLG 2.0 in JAX"
FONTS = ("system-ui", "Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", "sans-serif")
STYLE_SHEET = """
.gradio-container { max-width: 1100px !important; margin: 0 auto !important; }
#pictures img { width: 100%; height: 100%; object-fit: contain; }
#note progress { width: 100%; height: 0.6rem; accent-color: var(--color-accent); }
#generate, #stop { white-space: nowrap; padding-inline: 0.25rem; }
#note { min-height: 2.5rem; overflow-wrap: anywhere; }
"""
INTRODUCTION = f"# {TITLE}\nPictures from prompts in Chinese or English · 用中文或英文描述画面，生成图片"

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
        self.blocks = self._lay_out()
        # Closed: an address that skips the queue would let anyone start any number of requests at once.
        self.blocks.queue(max_size=queue_size, api_open=False, default_concurrency_limit=1)

    def launch(self, host: str, port: int, *, share: bool = False) -> str:
        """Serves the page from its own threads, and returns its address. UserError if the port is taken."""
        fonts = [*FONTS]
        functions = {number: len(function.inputs) for number, function in self.blocks.fns.items()}
        names = {str(function.api_name): len(function.inputs) for function in self.blocks.fns.values()}
        guard = Middleware(Guard, values={**functions, **names}, waiting=self._waiting, share=self.client_queue_size)
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
                css=STYLE_SHEET,
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

    def generate(
        self,
        prompt: Any = None,
        style: Any = None,
        num_images: Any = None,
        random_seed: Any = None,
        seed: Any = None,
        negative_prompt: Any = None,
        *fields: Any,
    ) -> Iterator[tuple[Any, str, Any]]:
        """Yields the values of the gallery, the note and the seed field. Every failure is one sentence."""
        try:
            request = read_request(
                self.worker.choices, prompt, style, num_images, random_seed, seed, negative_prompt,
                translate=self.translate, **dict(zip(FIELDS, fields, strict=False)),
            )  # fmt: skip
            wait = (
                "Compiling for these settings, which takes up to a minute or two…"
                if self.worker.is_new(request)
                else ""
            )
            yield None, _bar(0, request.params.steps, wait or "Starting…"), request.params.seed
            for update in self.worker.make(request):
                yield self._shown(request, update)
        except UserError as error:
            # gradio shows the message as HTML.
            raise gr.Error(html.escape(f"{error}".rstrip(".") + "."), print_exception=False) from error
        except Exception as error:
            log.exception("a request failed")
            message = "Something went wrong on the server; its log says what. Other settings may work."
            raise gr.Error(message, print_exception=False) from error

    def _shown(self, request: Request, update: Update) -> tuple[Any, str, Any]:
        if not update.done:
            note = _bar(update.step, update.steps, f"Step {update.step} of {update.steps}")
            return update.images or gr.skip(), note, gr.skip()
        params = request.params
        note = render("note.html", prompt=request.prompt, params=params, unseen=self.worker.unseen(request))
        return update.images, note, params.seed

    def _lay_out(self) -> gr.Blocks:
        choices = self.worker.choices
        styles = [
            ("none · 无", NO_STYLE),
            *((f"{one.en} · {one.zh}", key) for key, one in choices.styles.items()),
        ]
        with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(KEPT_SECONDS // 4, KEPT_SECONDS)) as blocks:
            gr.Markdown(INTRODUCTION)
            with gr.Row():
                with gr.Column(min_width=280):
                    prompt = gr.Textbox(
                        label="Prompt · 描述", lines=2, max_length=PROMPT_LIMIT, elem_id="prompt",
                        placeholder="一只熊猫 / a slice of pizza",
                    )  # fmt: skip
                    if choices.examples:
                        gr.Examples([[one] for one in choices.examples], prompt, label="Examples · 例子",
                                    examples_per_page=len(choices.examples), api_visibility="private")  # fmt: skip
                    style = gr.Dropdown(styles, value=NO_STYLE, label="Style · 风格")
                    count = gr.Slider(1, MOST_IMAGES, FIRST_IMAGES, step=1, label="Pictures · 张数")
                    with gr.Accordion("More · 更多", open=False):
                        random_seed = gr.Checkbox(True, label="Random seed · 随机种子")
                        seed = gr.Number(0, precision=0, minimum=0, maximum=SEEDS - 1, label="Seed · 种子")
                        negative = gr.Textbox(label="Negative prompt · 不要出现", max_length=PROMPT_LIMIT)
                        fields = [_control(choices, name) for name in FIELDS]
                with gr.Column(min_width=280):
                    with gr.Row():
                        go = gr.Button("Generate · 生成", variant="primary", elem_id="generate", min_width=120, scale=2)
                        stop = gr.Button("Stop · 停止", elem_id="stop", min_width=80)
                    note = gr.HTML(elem_id="note")
                    gallery = gr.Gallery(
                        show_label=False, elem_id="pictures", columns=2, height="auto", format="png",
                        object_fit="contain", buttons=["download", "download_all", "fullscreen"], interactive=False,
                    )  # fmt: skip
            event = gr.on(
                [go.click, prompt.submit],
                self.generate,
                [prompt, style, count, random_seed, seed, negative, *fields],
                [gallery, note, seed],
                preprocess=False,
                api_name="generate",
                show_progress="minimal",
                show_progress_on=note,
                trigger_mode="once",
                concurrency_limit=1,
            )
            stop.click(None, cancels=[event], api_visibility="private")
        return blocks


def _control(choices: Choices, name: str) -> Any:
    """The control of a field of `SamplingParams`."""
    accepts, value, (least, most) = ACCEPTS[name], getattr(choices.params, name), limits(name)
    if name == "steps":  # few, because each is a program to compile
        return gr.Radio(list(choices.steps), value=value, label=accepts.label)
    if accepts.choices:
        return gr.Dropdown(list(accepts.choices), value=value, label=accepts.label)
    return gr.Slider(least, most, value, step=1 if isinstance(value, int) else 0.1, label=accepts.label)


def _bar(step: int, steps: int, text: str) -> str:
    return render("progress.html", step=step, steps=steps, text=text)
