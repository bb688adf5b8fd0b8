"""The best checkpoint of a run by one of its metrics: kept beside the newest, and found as `RUN/best`."""

import json
from typing import Any

from absl import logging
from etils import epath

from ernie_vilg_jax.checkpointing.folders import BEST_NOTE, best_note, steps
from ernie_vilg_jax.errors import UserError


class Best:
    """The step of the best checkpoint in a folder `checkpoints`; an Orbax policy that preserves it.

    Args:
      metric: name of the value that decides; "" keeps nothing.
      lower: whether lower values are better.
      writes: whether this process writes the note; all others must call `consider` with the same values.
    """

    def __init__(self, directory: epath.Path, metric: str = "", lower: bool = True, writes: bool = True) -> None:
        self.directory = directory
        self.metric = metric
        self.lower = lower
        self.writes = writes
        note = best_note(directory)
        # A run that went back to an earlier step has other checkpoints now, and another metric another best.
        known = note is not None and note["metric"] == metric and note["step"] in steps(directory)
        self.step: int | None = note["step"] if note and known else None
        self.value: float = note["value"] if note and known else float("inf" if lower else "-inf")

    def consider(self, step: int, values: dict[str, float]) -> None:
        """Notes whether the checkpoint of `step` is the best. Raises UserError if the metric is not in `values`."""
        if not self.metric:
            return
        if self.metric not in values:
            raise UserError(
                f"--config.train.keep_best={self.metric} is not measured: choose from {', '.join(values) or 'nothing'}"
            )
        value = values[self.metric]
        if not (value < self.value if self.lower else value > self.value):  # never a NaN
            return
        self.step, self.value = step, value
        logging.info("step %d has the best %s so far: %.4f", step, self.metric, value)
        if self.writes:
            note = {"step": step, "metric": self.metric, "value": value, "lower_is_better": self.lower}
            # A run that is killed here must find the whole note, or its best checkpoint would be forgotten.
            fresh = self.directory / f".{BEST_NOTE}.partial"
            fresh.write_text(json.dumps(note))
            fresh.replace(self.directory / BEST_NOTE)

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        """For Orbax: whether each checkpoint is to be kept."""
        del context
        return [info.step == self.step for info in checkpoints]
