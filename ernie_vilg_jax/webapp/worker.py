"""Runs one request after the other, with previews. Knows nothing about pages."""

import dataclasses
import json
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from ernie_vilg_jax.pipeline import Pipeline, Progress
from ernie_vilg_jax.webapp.options import choices_for
from ernie_vilg_jax.webapp.request import Request

PROGRAMS = 8
"""Programs to keep: each takes tens of megabytes, and visitors could request dozens."""
PREVIEW_SECONDS = 0.5
"""Seconds between two previews: decoding takes as long as a step of the model."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Update:
    """The progress of a request."""

    step: int
    """Done of `steps`; 0 before the first."""
    steps: int
    images: list[Image.Image] = field(default_factory=list)
    """Previews, or the images when `done`; none before the first preview."""
    done: bool = False


class _Stopped(Exception):
    """The visitor no longer waits for the images."""


class Worker:
    """A model shared by many visitors, one request at a time."""

    def __init__(self, pipe: Pipeline) -> None:
        self.pipe = pipe
        self.choices = choices_for(pipe.config)
        self._at_work = threading.Lock()
        self._pipes: OrderedDict[tuple[Any, ...], Pipeline] = OrderedDict()

    def warm_up(self, num_images: int) -> None:
        """Compiles the program of the page's default settings."""
        choices = self.choices
        request = Request(
            prompt=choices.examples[0] if choices.examples else "a cat",
            params=dataclasses.replace(choices.params, num_images=num_images),
        )
        start = time.monotonic()
        what = f"{num_images} pictures, {request.params.steps} steps of {request.params.sampler}"
        log.info("compiling the settings that the page begins with (%s), for the first visitor", what)
        for _ in self.make(request):
            pass
        log.info("compiled and tried in %.0f s", time.monotonic() - start)

    def unseen(self, request: Request) -> str:
        """The part of the prompt beyond the model's limit, or ""."""
        return self.pipe.tokenizer.encode(request.prompt)[2]

    def is_new(self, request: Request) -> bool:
        """Whether a program must be compiled first."""
        return _key(request) not in self._pipes

    def make(self, request: Request) -> Iterator[Update]:
        """Makes the images; the last update holds them. Close the iterator to stop."""
        updates: queue.Queue[Update | BaseException] = queue.Queue()
        stop = threading.Event()
        thread = threading.Thread(target=self._work, args=(request, updates, stop), daemon=True)
        thread.start()
        try:
            while True:
                update = updates.get()
                while not updates.empty():  # a slow reader sees the newest
                    update = updates.get()
                if isinstance(update, BaseException):
                    raise update
                yield update
                if update.done:
                    return
        finally:
            stop.set()

    def _work(self, request: Request, updates: queue.Queue[Update | BaseException], stop: threading.Event) -> None:
        shown = 0.0

        def on_step(progress: Progress) -> None:
            nonlocal shown
            if stop.is_set():
                raise _Stopped
            if progress.step == progress.steps or time.monotonic() - shown < PREVIEW_SECONDS:
                return
            updates.put(Update(progress.step, progress.steps, progress.images()))
            shown = time.monotonic()

        try:
            with self._at_work:
                if stop.is_set():
                    raise _Stopped
                images = self._pipe_for(request)(
                    request.prompt,
                    **dataclasses.asdict(request.params),
                    # No progress if groups of devices are at different steps.
                    on_step=None if self.pipe.mode == "pipelined" else on_step,
                )
            for image in images:
                # PNGs carry text only.
                image.info = {name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                              for name, value in image.info.items()}  # fmt: skip
            updates.put(Update(request.params.steps, request.params.steps, images, done=True))
        except BaseException as error:  # passed to the reader, which raises it
            updates.put(error)

    def _pipe_for(self, request: Request) -> Pipeline:
        """A pipeline with only the program of the request; a new one replaces the least recently used."""
        key = _key(request)
        if key not in self._pipes:
            pipe = self.pipe
            self._pipes[key] = Pipeline(
                pipe.config, pipe.model, pipe.stages, pipe.params, pipe.tokenizer, mode=pipe.mode, mesh=pipe.mesh
            )
            if len(self._pipes) > PROGRAMS:
                # The first was compiled at the start, for the default settings.
                del self._pipes[list(self._pipes)[1]]
        elif key != next(iter(self._pipes)):
            self._pipes.move_to_end(key)
        return self._pipes[key]


def _key(request: Request) -> tuple[Any, ...]:
    """Requests with the same key use the same program."""
    params = request.params
    size = next(size for size in (1, 2, 4, 8) if size >= params.num_images)
    return params.sampler, params.steps, size, params.guidance_scale > 1
