"""Runs one request after the other, with previews. Knows nothing about pages."""

import dataclasses
import json
import logging
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from PIL import Image

from ernie_vilg_jax.evaluation.scorers import make_scorer
from ernie_vilg_jax.pipeline import Pipeline, Progress
from ernie_vilg_jax.pipeline.rerank import Scorer
from ernie_vilg_jax.webapp.options import choices_for
from ernie_vilg_jax.webapp.request import Request
from ernie_vilg_jax.webapp.vocabulary import vocabulary_of

PROGRAMS = 16
"""Programs to keep: each takes tens of megabytes, and visitors could request dozens."""
PREVIEW_SECONDS = 0.5
"""Seconds between two previews: decoding takes as long as a step of the model."""
TOLD_SECONDS = 1.0
"""Most seconds between two updates."""

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
    stages: tuple[int, ...] = ()
    """The stage of each step of a batch, and so its expert."""
    waits: str = ""
    """What it waits for before the first step."""


class _Stopped(Exception):
    """The visitor no longer waits for the images."""


class Worker:
    """A model shared by many visitors, one request at a time."""

    def __init__(self, pipe: Pipeline) -> None:
        self.pipe = pipe
        self.pipe.runner.most_programs = PROGRAMS
        self.choices = choices_for(pipe.config)
        self.status = ""
        """What all visitors wait for; "" if nothing."""
        self._at_work = threading.Lock()
        self._scorers: dict[str, Scorer] = {}

    def warm_up(self, num_images: int) -> None:
        """Compiles the program of the page's default settings."""
        choices = self.choices
        request = Request(
            prompt=choices.examples[0] if choices.examples else "a cat",
            params=dataclasses.replace(choices.params, num_images=num_images),
        )
        start = time.monotonic()
        self.status = "The model is being compiled for its first visitor, which takes a minute or two"
        what = f"{num_images} pictures, {request.params.steps} steps of {request.params.sampler}"
        log.info("compiling the settings that the page begins with (%s), for the first visitor", what)
        try:
            for _ in self.make(request):
                pass
            log.info("compiled and tried in %.0f s", time.monotonic() - start)
        except Exception:
            log.exception("the settings that the page begins with cannot be made")
        finally:
            self.status = ""

    def cut_off(self, request: Request) -> str:
        """The part of the prompt beyond the model's limit, or ""."""
        return self.pipe.tokenizer.encode(request.prompt)[2]

    def never_seen(self, request: Request) -> list[str]:
        """Words of the prompt that the model was never shown; none if that is not known."""
        return self._vocabulary.unseen(request.prompt) if self._vocabulary is not None else []

    @cached_property
    def _vocabulary(self) -> Any:
        return vocabulary_of(self.pipe.config)

    def make(self, request: Request) -> Iterator[Update]:
        """Makes the images; the last update holds them. Close the iterator to stop."""
        updates: queue.Queue[Update | BaseException] = queue.Queue()
        stop, begun = threading.Event(), threading.Event()
        thread = threading.Thread(target=self._work, args=(request, updates, stop, begun), daemon=True)
        thread.start()
        last = None
        try:
            while True:
                try:
                    update = updates.get(timeout=TOLD_SECONDS)
                except queue.Empty:  # a reader who has left is noticed at the next update only
                    yield last or Update(0, request.params.steps, waits=self._waits(begun.is_set()))
                    continue
                while not updates.empty():  # a slow reader sees the newest
                    update = updates.get()
                if isinstance(update, BaseException):
                    raise update
                last = dataclasses.replace(update, images=[])  # those are shown already
                yield update
                if update.done:
                    return
        finally:
            stop.set()

    def _waits(self, begun: bool) -> str:
        if not begun:
            return self.status or "Waiting for another request"
        compiling = self.pipe.runner.compiling
        return f"Compiling for {compiling}, which takes up to a minute or two" if compiling else "Starting…"

    def _work(
        self,
        request: Request,
        updates: queue.Queue[Update | BaseException],
        stop: threading.Event,
        begun: threading.Event,
    ) -> None:
        shown = 0.0

        def on_step(progress: Progress) -> None:
            nonlocal shown
            if stop.is_set():
                raise _Stopped
            if progress.step == progress.steps or time.monotonic() - shown < PREVIEW_SECONDS:
                return
            updates.put(Update(progress.step, progress.steps, progress.images(), stages=progress.stages))
            shown = time.monotonic()

        try:
            with self._at_work:
                begun.set()
                if stop.is_set():
                    raise _Stopped
                given = {"image": request.image, "mask": request.mask, "strength": request.strength}
                images = self.pipe(
                    request.prompt,
                    rerank=self._scorer(request.rerank),
                    # No progress if groups of devices are at different steps.
                    on_step=None if self.pipe.mode == "pipelined" else on_step,
                    **dataclasses.asdict(request.params),
                    **(given if request.image is not None else {}),
                )
            for image in images:
                # PNGs carry text only.
                image.info = {name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                              for name, value in image.info.items()}  # fmt: skip
            updates.put(Update(request.params.steps, request.params.steps, list(images), done=True))
        except BaseException as error:  # passed to the reader, which raises it
            updates.put(error)

    def _scorer(self, name: str) -> Scorer | None:
        if name and name not in self._scorers:
            self._scorers[name] = make_scorer(name)
        return self._scorers.get(name)
