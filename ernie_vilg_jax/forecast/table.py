"""All programs of a run as rows of one table, compiled one after the other, each in its own process.

A report and a small record of each are kept in one folder, so a killed run resumes, and unchanged programs are not
compiled again: a program is unchanged if code, config, slice and compiler are the same, or if its lowered text is.
"""

import dataclasses
import functools
import hashlib
import json
import math
import signal
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ernie_vilg_jax import worker_processes
from ernie_vilg_jax.chips import Chip
from ernie_vilg_jax.config import as_json, plain
from ernie_vilg_jax.data.sizes import sizes_of
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.forecast import NAMES, SIZED, programs
from ernie_vilg_jax.forecast.abstract import config_for
from ernie_vilg_jax.forecast.report import GIB, Forecast, forecast
from ernie_vilg_jax.forecast.topology import describe
from ernie_vilg_jax.paths import write_atomically
from ernie_vilg_jax.sharding.compiler_options import compiler_options
from ernie_vilg_jax.sharding.mesh import make_mesh

FORMAT = 1
"""Of a record. Raise it when other things are read from a compiled program."""
HEADS = ("program", "images", "peak a chip", "of", "estimate", "verdict", "compiled in")


@dataclasses.dataclass(frozen=True)
class Job:
    """One row: a program of `programs.PROGRAMS`, its config, and the slice to compile for (see `describe`).

    `size` is that of its images in the row's name, if there are several.
    """

    program: str
    config: ConfigDict
    topology: str
    batch: int
    effort: str
    size: str = ""

    @property
    def name(self) -> str:
        return f"{self.program}_{self.size}" if self.size else self.program

    @property
    def inputs(self) -> str:
        """A digest of everything that decides the program and its report."""
        values = as_json(self.config)
        return _digest(self.program, plain(values), self.topology, self.batch, self.effort, _source(), *_compiler())


def jobs_of(config: ConfigDict, topology: str, chips: int, chip: Chip, batch: int, effort: str) -> list[Job]:
    """A job for each program of a run; for each of the config's sizes, where images of that size are trained on."""
    sizes, jobs = sizes_of(config), []
    for name in NAMES:
        own = config_for(name, config, chips, chip)
        if name not in SIZED or len(sizes) == 1:
            jobs.append(Job(name, own, topology, batch, effort))
            continue
        for size in sizes:
            with_size = own.copy_and_resolve_references()
            with_size.data.sizes = (tuple(size),)
            jobs.append(Job(name, with_size, topology, batch, effort, str(size)))
    return jobs


@dataclasses.dataclass(frozen=True)
class Row:
    """What is kept of a report; a program that was not compiled only has a `verdict`.

    Attributes:
      inputs, lowered: digests of its inputs, and of the program that the compiler was given.
      peak, of: bytes of one chip.
      estimate: seconds, of a full compilation.
    """

    program: str
    verdict: str
    fits: bool = False
    images: int = 0
    peak: float | None = None
    of: float | None = None
    estimate: float | None = None
    compiled: str = "not"
    inputs: str = ""
    lowered: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        peak = f"{self.peak / GIB:.2f} GiB" if self.peak else ""
        of = f"{self.of / GIB:.0f} GiB" if self.of else ""
        estimate = f"{self.estimate * 1e3:.0f} ms" if self.estimate else ""
        return self.program, str(self.images or ""), peak, of, estimate, self.verdict, self.compiled


def compile_all(jobs: Sequence[Job], folder: Path, tell: Callable[[str], object]) -> bool:
    """Compiles what is not compiled yet; calls `tell` with each line of the table. Returns whether every program fits.

    Writes PROGRAM.txt (report) and PROGRAM.json (record) for each, and table.md, as far as it got.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []

    def add(cells: Sequence[str]) -> None:
        lines.append(f"| {' | '.join(cells)} |\n")
        tell(lines[-1].rstrip())
        write_atomically(folder / "table.md", "".join(lines).encode())

    add(HEADS)
    add(["---"] * len(HEADS))
    rows = []
    for job in jobs:
        row = read(folder, job.name)
        if row is None or row.inputs != job.inputs:
            row = _in_its_process(job, folder)
        rows.append(row)
        add(row.cells)
    return all(row.fits for row in rows)


def read(folder: Path, program: str) -> Row | None:
    """The record of a program; None if there is none, or one of another format."""
    try:
        values = json.loads((folder / f"{program}.json").read_text())
        return Row(**values["row"]) if values["format"] == FORMAT else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _in_its_process(job: Job, folder: Path) -> Row:
    """The row, made in a process that frees all memory; if it dies (libtpu can abort), the others go on."""
    process = worker_processes.context(__name__).Process(target=_work, args=(job, folder))
    process.start()
    process.join()
    row = read(folder, job.name)
    if process.exitcode == 0 and row is not None:
        return row
    return Row(job.name, f"the compiler's process ended with status {process.exitcode}")


def _work(job: Job, folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's handler would have to wait for the compiler
    worker_processes.end_with_parent()
    try:
        row, report = _row(job, read(folder, job.name))
    except UserError as error:
        row, report = Row(job.name, f"cannot run: {error}"), str(error)
    except Exception as error:
        traceback.print_exc()
        row, report = Row(job.name, f"failed: {type(error).__name__}"), traceback.format_exc()
    if report:
        write_atomically(folder / f"{job.name}.txt", f"{report}\n".encode())
    record = {"format": FORMAT, "row": dataclasses.asdict(row)}
    write_atomically(folder / f"{job.name}.json", f"{json.dumps(record, indent=1)}\n".encode())


def _row(job: Job, before: Row | None) -> tuple[Row, str]:
    """The row and its report; "" if the existing report is of the same program."""
    devices, chip = describe(job.topology)
    built = programs.build(job.program, job.config, make_mesh(job.config.mesh, devices), job.batch)
    lowered = built.lower()
    options = compiler_options(built.mesh)
    digest = _digest(lowered[0].as_text(), job.topology, repr(chip), job.effort, options, *_compiler())
    if before is not None and before.lowered == digest:
        return dataclasses.replace(before, inputs=job.inputs), ""
    found = forecast(built, chip, job.effort, lowered)
    return _of(job, found, digest), found.text()


def _of(job: Job, found: Forecast, digest: str) -> Row:
    return Row(
        program=job.name,
        verdict="fits" if found.fits else f"does not fit: {found.because}",
        fits=found.fits,
        images=found.batch,
        peak=found.peak if math.isfinite(found.peak) else None,
        of=found.chip.hbm,
        estimate=None if found.effort else found.seconds,
        compiled=found.compiled,
        inputs=job.inputs,
        lowered=digest,
    )


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@functools.cache
def _source() -> str:
    """A digest of this package's code."""
    root = Path(__file__).parents[1]
    return _digest({str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*.py"))})


def _compiler() -> list[str]:
    return [f"{package} {version(package)}" for package in ("jax", "jaxlib", "libtpu")]
