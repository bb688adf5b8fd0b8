"""Where numbers and pictures go: metrics.jsonl, TensorBoard, and PNG files people can open."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter

from ernie_vilg_jax.grid import labelled_grid


class MetricWriter:
    """Writes to `<directory>/metrics.jsonl`, `<directory>/tensorboard/` and `<directory>/previews/`.

    With enabled=False (every process but the first) it writes nothing.
    """

    def __init__(self, directory: Path, enabled: bool = True) -> None:
        self.directory = directory
        self.enabled = enabled
        if enabled:
            directory.mkdir(parents=True, exist_ok=True)
            self._lines = (directory / "metrics.jsonl").open("a", encoding="utf-8")
            self._board = SummaryWriter(str(directory / "tensorboard"))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if not self.enabled:
            return
        line = {"step": step, "time": round(time.time(), 3), **{name: float(value) for name, value in values.items()}}
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def images(self, step: int, pictures: np.ndarray, labels: Sequence[str]) -> None:
        """Pictures [N, H, W, 3] uint8 as one labelled grid."""
        if not self.enabled or not len(pictures):
            return
        grid = labelled_grid([Image.fromarray(picture) for picture in pictures], list(labels))
        folder = self.directory / "previews"
        folder.mkdir(exist_ok=True)
        grid.save(folder / f"{step:08d}.png")
        self._board.add_image("preview", np.asarray(grid.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        if self.enabled:
            self._lines.close()
            self._board.close()

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def duration(seconds: float) -> str:
    """'1h02m', '3m20s', '12s'."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{secs:02d}s" if minutes else f"{secs}s"
