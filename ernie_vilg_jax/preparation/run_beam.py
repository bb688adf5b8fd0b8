"""A pass over units of work as an Apache Beam pipeline. The only module that imports apache_beam.

    names --Reshuffle--> Work.do, one unit at a time per worker thread --> files in the output

The runner's flags are passed on, so that the same pipeline runs here (DirectRunner) or on Dataflow, Flink or Spark.
There the workers need this package (--setup_file=./setup.py or a container image) and need access to the input, the
output and the files in options under the same path or URL.
The counters of the pass grow in the runner's own display.
"""

from __future__ import annotations

import contextlib
import logging as python_logging
import shlex
import threading
from collections.abc import Iterator, Mapping, Sequence

from absl import logging

from ernie_vilg_jax.errors import UserError, install
from ernie_vilg_jax.preparation.folders import Folder, open_folder
from ernie_vilg_jax.preparation.progress import PROGRESS
from ernie_vilg_jax.preparation.work import Work
from ernie_vilg_jax.progress import Progress

_disabled = python_logging.root.manager.disable
python_logging.disable(python_logging.WARNING)  # it warns about Google clients, which only some runners need
try:
    import apache_beam as beam
    from apache_beam.metrics.metric import Metrics
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError as error:
    raise UserError(f"--beam needs the package apache-beam: {install('beam')}") from error
finally:
    python_logging.disable(_disabled)

_LOG_LEVEL = "--default_sdk_harness_log_level"
_POLL_SECONDS = 5.0


class _Do(beam.DoFn):
    """Name of a unit -> the name again, once the unit and its note are in the output.

    An error that users can fix is written to a file beside the notes, because runners retry after an exception and hide
    its message; `run_beam` finds it there.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._counters = {name: Metrics.counter(type(work).__name__.lower(), name) for name in work.counters}
        self._failure = ""

    def setup(self) -> None:
        try:
            self._work.load()
        except UserError as error:
            self._failure = str(error)

    def process(self, element: str) -> Iterator[str]:
        output = open_folder(self._work.output)
        if not _failures(output):  # otherwise the run has already failed
            try:
                if self._failure:
                    raise UserError(self._failure)
                self._work.do(element, self._count)
                yield element
            except UserError as error:
                output.write(f"{PROGRESS}/{element}.failed", str(error).encode())

    def _count(self, counts: Mapping[str, int]) -> None:
        for name, counter in self._counters.items():
            counter.inc(counts.get(name, 0))


def _failures(output: Folder) -> list[str]:
    return output.names(f"{PROGRESS}/*.failed")


def run_beam(work: Work, names: Sequence[str], flags: str, progress: Progress) -> None:
    """Does the units by a pipeline with these flags."""
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
    # Without the reshuffle the units would stay together in one bundle, and so on one worker.
    units = pipeline | beam.Create(list(names), reshuffle=False) | beam.Reshuffle()
    _ = units | beam.ParDo(_Do(work))
    output = open_folder(work.output)
    for failure in _failures(output):  # of an earlier run
        output.delete(failure)
    with _watch(work, names, output, progress):
        result = pipeline.run()
        result.wait_until_finish()
    if failures := _failures(output):
        raise UserError(output.read(failures[0]).decode())
    committed = result.metrics().query()["counters"]
    logging.info("Beam counters: %s", {c.key.metric.name: c.committed for c in committed if c.committed is not None})


@contextlib.contextmanager
def _watch(work: Work, names: Sequence[str], output: Folder, progress: Progress) -> Iterator[None]:
    """Reports finished units, by their notes, while the pipeline runs."""
    waiting = {work.note(name): work.size(name) for name in names}
    folders = sorted({note.rpartition("/")[0] for note in waiting})
    done = threading.Event()

    def look() -> None:
        found = {note for folder in folders for note in output.names(f"{folder}/*.json")} & set(waiting)
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
