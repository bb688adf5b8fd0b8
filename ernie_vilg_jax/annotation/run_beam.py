"""Annotation as an Apache Beam pipeline.

    shard names --Reshuffle--> annotate_shard, one shard at a time per worker thread --> files in the output

The runner's flags are passed on, so that the same pipeline runs here (DirectRunner) or on Dataflow, Flink or Spark.
There the workers need this package (--setup_file=./setup.py or a container image) and need access to the input, the
output and the files in options under the same path or URL. A shard is the unit of work: prepare as many as workers.
Counters `records`, `rejected`, `words`, `objects` grow batch by batch in the runner's own display.
"""

from __future__ import annotations

import contextlib
import json
import logging as python_logging
import shlex
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from ernie_vilg_jax.annotation.folders import Folder, open_folder
from ernie_vilg_jax.annotation.shard import Job, annotate_shard, load_tools, note_name
from ernie_vilg_jax.annotation.url_folder import Metrics, PipelineOptions, beam
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.progress import PROGRESS
from ernie_vilg_jax.progress import Progress

_LOG_LEVEL = "--default_sdk_harness_log_level"
COUNTERS = ("records", "rejected", "words", "objects")
_POLL_SECONDS = 5.0


class AnnotateShard(beam.DoFn):
    """Shard name -> the name again, once the shard and its note are in the output.

    An error that users can fix is written to a file beside the notes, because runners retry after an exception and hide
    its message; `run_beam` finds it there.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._counters = {name: Metrics.counter("annotate", name) for name in COUNTERS}
        self._failure = ""

    def setup(self) -> None:
        try:
            load_tools(self._job.settings)
        except UserError as error:
            self._failure = str(error)

    def process(self, element: str) -> Iterator[str]:
        output = open_folder(self._job.output)
        if not _failures(output):  # otherwise the run has already failed
            try:
                if self._failure:
                    raise UserError(self._failure)
                annotate_shard(self._job, element, self._count)
                yield element
            except UserError as error:
                output.write(f"{PROGRESS}/{element}.failed", str(error).encode())

    def _count(self, counts: Mapping[str, int]) -> None:
        for name, counter in self._counters.items():
            counter.inc(counts.get(name, 0))


def _failures(output: Folder) -> list[str]:
    return output.names(f"{PROGRESS}/*.failed")


def run_beam(job: Job, names: Sequence[str], flags: str, progress: Progress) -> dict[str, dict[str, Any]]:
    """Annotates the shards by a pipeline with these flags and returns their notes."""
    # Repeats the output of the workers of the DirectRunner.
    python_logging.getLogger("apache_beam.runners.portability.local_job_service").setLevel(python_logging.ERROR)
    try:
        arguments = shlex.split(flags)
        if not any(argument.startswith(_LOG_LEVEL) for argument in arguments):
            arguments.append(f"{_LOG_LEVEL}=WARNING")
        options = PipelineOptions(arguments)
        pipeline = beam.Pipeline(options=options)
    except (ValueError, ImportError) as error:
        raise UserError(f"--beam={flags!r} is not understood by Apache Beam ({error})") from error
    # Without the reshuffle the shards would stay together in one bundle, and so on one worker.
    shards = pipeline | beam.Create(list(names), reshuffle=False) | beam.Reshuffle()
    _ = shards | beam.ParDo(AnnotateShard(job))
    output = open_folder(job.output)
    with _watch(job, names, output, progress):
        result = pipeline.run()
        result.wait_until_finish()
    if failures := _failures(output):
        raise UserError(output.read(failures[0]).decode())
    committed = result.metrics().query()["counters"]
    logging.info("Beam counters: %s", {c.key.metric.name: c.committed for c in committed if c.committed is not None})
    return {name: json.loads(output.read(note_name(name))) for name in names}


@contextlib.contextmanager
def _watch(job: Job, names: Sequence[str], output: Folder, progress: Progress) -> Iterator[None]:
    """Reports finished shards, by their notes, while the pipeline runs."""
    waiting = {note_name(name): job.shards[name]["records"] for name in names}
    done = threading.Event()

    def look() -> None:
        found = set(output.names(f"{PROGRESS}/*.json")) & set(waiting)
        progress.made(sum(waiting.pop(note) for note in found))

    def poll() -> None:
        while not done.wait(_POLL_SECONDS):
            look()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    look()
