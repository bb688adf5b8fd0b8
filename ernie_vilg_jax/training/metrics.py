"""Where numbers and pictures go: metrics.jsonl, TensorBoard, and PNG files people can open."""

import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from absl import logging
from etils import epath
from PIL import Image
from tensorboardX import SummaryWriter

from ernie_vilg_jax import paths
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.grid import labelled_grid

UPLOAD_EVERY = 60.0
"""Seconds between copies to a URL: storage buckets cannot append, so that each copy is of the whole files."""


class MetricWriter:
    """Writes to `<directory>/metrics.jsonl`, `<directory>/tensorboard/` and `<directory>/previews/`.

    Where the directory is a URL, they are written to a temporary folder and copied there about every minute, and at
    the end. With enabled=False (every process but the first) it writes nothing.
    """

    def __init__(self, directory: epath.PathLike, enabled: bool = True) -> None:
        self.enabled = enabled
        if not enabled:
            return
        self._url = epath.Path(directory) if paths.is_url(directory) else None
        self.directory = Path(directory) if self._url is None else Path(tempfile.mkdtemp(prefix="ernie_vilg_jax_"))
        with file_errors(self.directory):
            self._open()

    def _open(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._url is not None and (self._url / "metrics.jsonl").exists():
            (self.directory / "metrics.jsonl").write_bytes((self._url / "metrics.jsonl").read_bytes())
        self._copied = time.monotonic()
        self._lines = (self.directory / "metrics.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(self.directory / "tensorboard"))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if not self.enabled:
            return
        line = {"step": step, "time": round(time.time(), 3), **{name: float(value) for name, value in values.items()}}
        with file_errors(self.directory):
            self._lines.write(json.dumps(line) + "\n")
            self._lines.flush()
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
            if time.monotonic() - self._copied > UPLOAD_EVERY:
                self._copy()

    def images(self, step: int, images: np.ndarray, labels: Sequence[str]) -> None:
        """Pictures [N, H, W, 3] uint8 as one labelled grid."""
        if not self.enabled or not len(images):
            return
        grid = labelled_grid([Image.fromarray(image) for image in images], list(labels))
        folder = self.directory / "previews"
        with file_errors(folder):
            folder.mkdir(exist_ok=True)
            grid.save(folder / f"{step:08d}.png")
        self._board.add_image("preview", np.asarray(grid.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        if not self.enabled:
            return
        with file_errors(self.directory):
            self._lines.close()
            self._board.close()
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
            logging.warning("%s", also)  # what ended the block is what is said


def duration(seconds: float) -> str:
    """'1h02m', '3m20s', '12s'."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{secs:02d}s" if minutes else f"{secs}s"
