"""A trace of some training steps, for TensorBoard's profiler or Perfetto: what a step spends its time on."""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
from absl import logging
from etils import epath

from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.sharding import processes


def parse_window(text: str) -> tuple[int, int]:
    """ "100:105" -> (100, 105): the five steps from when 100 are done until 105 are. Raises UserError for others."""
    match = re.fullmatch(r"(\d{1,18}):(\d{1,18})", text, re.ASCII)
    if match is None or int(match[1]) >= int(match[2]):
        raise UserError(f"--profile_steps={text} must be two numbers of steps, the lower first, such as 100:105")
    return int(match[1]), int(match[2])


def _options() -> jax.profiler.ProfileOptions:
    """Without calls of Python: `start_trace` sets a hook for them in every thread, and crashed once."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    return options


class Profile:
    """Traces the steps of a window into `folder`; every process calls it, but only the first one traces."""

    def __init__(self, window: tuple[int, int] | None, folder: epath.Path, first: int, last: int) -> None:
        """`first` and `last` are the first and last steps of the run."""
        self.window, self.folder = window, folder
        self.running: Path | None = None
        if window and not (first < window[1] and window[0] < last):
            logging.warning(
                "--profile_steps=%d:%d: nothing is traced, this run goes from step %d to %d", *window, first, last
            )

    def at(self, step: int, results: Any) -> None:
        """Call it when `step` steps have been dispatched, with the results of the last of them."""
        if self.window is None or processes.index():
            return
        low, high = self.window
        if self.running is None and low <= step < high:
            jax.block_until_ready(results)  # earlier steps are not part of the trace
            self.running = Path(tempfile.mkdtemp(prefix="ernie_vilg_jax_profile_"))
            jax.profiler.start_trace(str(self.running), profiler_options=_options())
        elif self.running is not None and step >= high:
            self.close(results)

    def close(self, results: Any = None) -> None:
        """Ends the trace, if there is one, and writes it to the folder."""
        if self.running is None:
            return
        trace, self.running = self.running, None
        try:
            jax.block_until_ready(results)
            jax.profiler.stop_trace()
            with file_errors(self.folder):
                for file in (file for file in trace.rglob("*") if file.is_file()):
                    target = self.folder / str(file.relative_to(trace))
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(file.read_bytes())
        finally:
            shutil.rmtree(trace, ignore_errors=True)
        logging.info("profile written: tensorboard --logdir=%s (with tensorboard-plugin-profile)", self.folder)
