"""Writers of metrics and images: metrics.jsonl, PNG files, and what `config.train.logs` names (writers.py)."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
from absl import logging
from etils import epath
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax import paths
from ernie_vilg_jax.config import flat, plain
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.grid import labelled_grid
from ernie_vilg_jax.sharding import processes
from ernie_vilg_jax.training import flops
from ernie_vilg_jax.training.optimizer import learning_rate
from ernie_vilg_jax.training.task import Batch, Task
from ernie_vilg_jax.training.writers import Several

UPLOAD_EVERY = 60.0
"""Seconds between copies to a URL: storage buckets cannot append, so each copy is of the whole files."""


class MetricWriter:
    """Writes to `<directory>/metrics.jsonl`, `<directory>/previews/` and the writers of `logs` (tensorboard, wandb).

    If the directory is a URL, they are written to a temporary folder and copied there about every minute, and at
    the end. With enabled=False (every process but the first) it writes nothing.
    """

    def __init__(self, directory: epath.PathLike, enabled: bool = True, logs: Sequence[str] = ("tensorboard",)) -> None:
        self.enabled = enabled
        if not enabled:
            return
        self._url = epath.Path(directory) if paths.is_url(directory) else None
        self.directory = Path(directory) if self._url is None else Path(tempfile.mkdtemp(prefix="ernie_vilg_jax_"))
        with file_errors(self.directory):
            self._open()
            self._others = Several(logs, self.directory, paths.absolute(directory))

    def settings(self, config: ConfigDict) -> None:
        """The config of the run, for the writers of `logs`."""
        if self.enabled:
            self._others.write_hparams(flat(plain(config)))

    def _open(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._url is not None and (self._url / "metrics.jsonl").exists():
            (self.directory / "metrics.jsonl").write_bytes((self._url / "metrics.jsonl").read_bytes())
        self._copied = time.monotonic()
        self._lines = (self.directory / "metrics.jsonl").open("a", encoding="utf-8")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if not self.enabled:
            return
        line = {"step": step, "time": round(time.time(), 3), **{name: float(value) for name, value in values.items()}}
        with file_errors(self.directory):
            self._lines.write(json.dumps(line) + "\n")
            self._lines.flush()
            self._others.write_scalars(step, {name: float(value) for name, value in values.items()})
            if time.monotonic() - self._copied > UPLOAD_EVERY:
                self._copy()

    def images(self, step: int, images: Sequence[np.ndarray], labels: Sequence[str]) -> None:
        """Images [H, W, 3] uint8 as one labelled grid."""
        if not self.enabled or not len(images):
            return
        grid = labelled_grid([Image.fromarray(image) for image in images], list(labels))
        folder = self.directory / "previews"
        with file_errors(folder):
            folder.mkdir(exist_ok=True)
            grid.save(folder / f"{step:08d}.png")
            self._others.write_images(step, {"preview": np.asarray(grid.convert("RGB"))})

    def close(self) -> None:
        if not self.enabled:
            return
        with file_errors(self.directory):
            self._lines.close()
            self._others.close()
            self._copy()
        if self._url is not None:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _copy(self) -> None:
        """To the URL, if it is one."""
        self._copied = time.monotonic()
        if self._url is None:
            return
        for file in self.directory.rglob("*"):
            if file.is_file():
                target = self._url / str(file.relative_to(self.directory))
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except UserError as also:
            if error is None:
                raise
            logging.warning("%s", also)  # the error that ended the block is raised instead


class Meter:
    """Means over the steps since the last report, and the rate of the steps.

    Every process has one; all report at the same steps, and then exchange their times. Batches may have several shapes,
    each with its own FLOPs.
    """

    TOTALS = ("skipped_updates",)
    """Metrics that are counts since the start of the run, not means."""

    def __init__(self, task: Task, config: ConfigDict, step: int) -> None:
        self.task, self.phase = task, config.phase
        self.learning_rate = learning_rate(config.phases[config.phase])
        self._flops: dict[str, tuple[float, float]] = {}
        self.skipped: float | None = None
        self._restart(step)

    def _restart(self, step: int) -> None:
        self.sums: dict[str, float] = {}
        self.work, self.executed = 0.0, 0.0
        self.count, self.read, self.step, self.mark = 0, 0.0, step, time.monotonic()

    def add(self, values: dict[str, float]) -> None:
        """The metrics of one step."""
        self.count += 1
        for name, value in values.items():
            self.sums[name] = value if name in self.TOTALS else self.sums.get(name, 0.0) + value

    def step_of(self, batch: Batch, step: int) -> None:
        """Tell it the batch of each step, before it runs: counts its FLOPs, and announces a new shape."""
        shape = content_shape(batch)
        if shape not in self._flops:
            with self.paused():
                self._flops[shape] = self.task.flops_per_step(batch), flops.computed_flops(self.task, batch)
            if len(self._flops) > 1:
                logging.info(
                    "%s step %d: the first batch of %s, for which a program is compiled", self.phase, step, shape
                )
        work, executed = self._flops[shape]
        self.work, self.executed = self.work + work, self.executed + executed

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent in this block does not count towards the rate."""
        start = time.monotonic()
        yield
        self.mark += time.monotonic() - start

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Time spent in this block counts as reading data."""
        start = time.monotonic()
        yield
        self.read += time.monotonic() - start

    def report(self, step: int) -> dict[str, float]:
        """All metrics of the steps since the last report, for `MetricWriter.scalars`; logs a line."""
        seconds = max(time.monotonic() - self.mark, 1e-9)
        steps = max(step - self.step, 1)
        means = {
            name: total if name in self.TOTALS else total / max(self.count, 1) for name, total in self.sums.items()
        }
        rate, work = steps * self.task.batch_size / seconds, self.work / seconds
        speed = {"images_per_second": rate, "tflop_per_second": work / 1e12, **self._times(seconds / steps, steps)}
        if peak := flops.peak_flops():
            speed |= {"mfu": work / peak, "hfu": self.executed / seconds / peak}
        used = f"{speed['mfu']:.1%} MFU" if peak else f"{work / 1e9:.0f} GFLOP/s"
        logging.info(
            "%s step %d/%d  loss %.4f  gradient %.3f  %.1f images/s  %s  %s left",
            *(self.phase, step, self.task.steps, means["loss"], means["grad_norm"], rate, used),
            duration((self.task.steps - step) * seconds / steps),
        )
        skipped = means.get("skipped_updates", 0.0)
        if self.skipped is not None and skipped > self.skipped:
            logging.warning(
                "%s: %d updates were skipped by step %d, %d of them lately, as their gradients were spikes",
                *(self.phase, skipped, step, skipped - self.skipped),
            )
        self.skipped = skipped
        means["learning_rate"] = float(np.asarray(self.learning_rate(step - 1)))
        self._restart(step)
        return {**{f"train/{name}": value for name, value in means.items()}, **speed}

    def _times(self, seconds: float, steps: int) -> dict[str, float]:
        """Seconds of a step, and of reading its data; with several processes also their spread.

        Processes wait for each other in every step, so the slowest one is found by its time of reading.
        """
        if processes.count() == 1:
            return {"step_seconds": seconds, "data_seconds": self.read / steps}
        times = np.asarray(multihost_utils.process_allgather(np.asarray([seconds, self.read / steps], np.float32)))
        (mean, _), (slowest, data), (fastest, _) = times.mean(0), times.max(0), times.min(0)
        spread = {"step_seconds_spread": slowest / max(fastest, 1e-9)}
        return {name: float(value) for name, value in {"step_seconds": mean, "data_seconds": data, **spread}.items()}


def content_shape(batch: Batch) -> str:
    """'images of 1536x1024' or 'latents of 192x128': what decides which program a batch needs."""
    name = "image" if "image" in batch else "mean"
    height, width = batch[name].shape[1:3]
    return f"{'images' if name == 'image' else 'latents'} of {height}x{width}"


def duration(seconds: float) -> str:
    """'1h02m', '3m20s', '12s'."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{secs:02d}s" if minutes else f"{secs}s"
