"""Annotation as an Apache Beam pipeline, and folders behind URLs; the only module that imports apache_beam.

    shard names --Reshuffle--> annotate_shard, one shard at a time per worker thread --> files in the output

The runner's flags are passed on, so that the same pipeline runs here (DirectRunner) or on Dataflow, Flink or Spark.
There the workers need this package (--setup_file=./setup.py or a container image) and must see the input, the output
and the files that options name under the same path or URL. A shard is the unit of work: prepare as many as workers.
Counters `records`, `rejected`, `words`, `objects` grow batch by batch in the runner's own display.
"""

from __future__ import annotations

import contextlib
import json
import logging as python_logging
import shlex
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from ernie_vilg_jax.data.annotation_shard import Job, annotate_shard, load_tools, note_name
from ernie_vilg_jax.data.folders import Folder, open_folder
from ernie_vilg_jax.data.progress import PROGRESS, Progress
from ernie_vilg_jax.errors import UserError

_disabled = python_logging.root.manager.disable
python_logging.disable(python_logging.WARNING)  # it warns about Google's clients, which only some runners need
try:
    import apache_beam as beam
    from apache_beam.io.filesystem import BeamIOError, CompressionTypes
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.metrics.metric import Metrics
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError as error:
    raise UserError(
        "--beam, and folders behind URLs, need the package apache-beam: pip install 'ernie_vilg_jax[annotate]'"
    ) from error
finally:
    python_logging.disable(_disabled)

_LOG_LEVEL = "--default_sdk_harness_log_level"
COUNTERS = ("records", "rejected", "words", "objects")
_POLL_SECONDS = 5.0


class AnnotateShard(beam.DoFn):
    """Shard name -> the name again, once the shard and its note are in the output.

    A mistake that the user can mend is left in a file beside the notes, because runners repeat what raises, and bury
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
        if not _failures(output):  # else the run has failed already
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
    # Repeats what the workers of the DirectRunner have printed already.
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
    """Reports finished shards, by their notes, while the pipeline runs wherever it runs."""
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


class UrlFolder:
    """A folder in an object store or another file system that Apache Beam knows."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        try:
            FileSystems.get_filesystem(self._url)
        except ValueError as error:
            raise UserError(
                f"Apache Beam cannot open {url}: check its scheme, or install what it needs, e.g. "
                "pip install 'apache-beam[gcp]' for gs://"
            ) from error

    def _at(self, name: str) -> str:
        return f"{self._url}/{name}"

    def create(self) -> None:
        with contextlib.suppress(BeamIOError, OSError):  # object stores have no folders, and it may be there
            FileSystems.mkdirs(self._url)

    def _match(self, pattern: str) -> dict[str, int]:
        found = FileSystems.match([self._at(pattern)])[0].metadata_list
        return {file.path.removeprefix(f"{self._url}/"): file.size_in_bytes for file in found}

    def names(self, pattern: str) -> list[str]:
        return sorted(self._match(pattern))

    def size(self, name: str) -> int | None:
        return self._match(name).get(name)

    def read(self, name: str) -> bytes:
        with FileSystems.open(self._at(name), compression_type=CompressionTypes.UNCOMPRESSED) as file:
            return file.read()

    def write(self, name: str, data: bytes) -> None:
        with FileSystems.create(self._at(name), compression_type=CompressionTypes.UNCOMPRESSED) as file:
            file.write(data)

    def put(self, file: Path, name: str) -> None:
        compression = CompressionTypes.UNCOMPRESSED
        with file.open("rb") as source, FileSystems.create(self._at(name), compression_type=compression) as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def delete(self, name: str) -> None:
        for pattern in (f"{name}/**", name):  # what is in a folder first
            if files := [self._at(found) for found in self.names(pattern)]:
                FileSystems.delete(files)

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        with self.scratch() as folder:
            copy = folder / Path(name).name
            with (
                FileSystems.open(self._at(name), compression_type=CompressionTypes.UNCOMPRESSED) as source,
                copy.open("wb") as target,
            ):
                shutil.copyfileobj(source, target, 1 << 20)
            yield copy

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
