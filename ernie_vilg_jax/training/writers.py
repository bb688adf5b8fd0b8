"""Where metrics and previews go besides metrics.jsonl: TensorBoard, Weights & Biases.

A writer has the methods of `clu.metric_writers.MetricWriter` that training uses; clu's own module needs TensorFlow.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from absl import logging

from ernie_vilg_jax import checks
from ernie_vilg_jax.errors import UserError, first_line, install


class Writer(Protocol):
    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """The settings of the run, once."""
        ...

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None: ...

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Name -> [H, W, 3] uint8."""
        ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


@contextmanager
def _as_if_without(module: str) -> Iterator[None]:
    """To import it raises an ImportError, unless it was imported before."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


class TensorBoard:
    """Event files in a folder."""

    def __init__(self, folder: Path, run: str) -> None:
        with _as_if_without("torch"):  # tensorboardX would import it, for seconds, only to name the type of its tensors
            from tensorboardX import SummaryWriter

        del run
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        rows = [f"| {name} | `{value}` |" for name, value in sorted(hparams.items())]
        self._board.add_text("config", "\n".join(["| setting | value |", "|---|---|", *rows]))

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._board.add_scalar(name, value, step)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        for name, image in images.items():
            self._board.add_image(name, image, step, dataformats="HWC")

    def flush(self) -> None:
        self._board.flush()

    def close(self) -> None:
        self._board.close()


class WeightsAndBiases:
    """A run of Weights & Biases. Its own environment variables say where: WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE.

    The run's id is that of the working directory, so that a training that was interrupted goes on in the same run.
    Steps are a metric of their own: after a restart from a checkpoint some come again, which `wandb.log(step=...)`
    drops.
    """

    def __init__(self, folder: Path, run: str) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError(
                f"config.train.logs names 'wandb', which needs the package wandb: {install('wandb')}"
            ) from error
        self._image = wandb.Image
        name = "/".join(run.rstrip("/").split("/")[-2:])
        try:
            self._run: Any = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "ernie_vilg_jax"),
                name=os.environ.get("WANDB_NAME", name),
                id=os.environ.get("WANDB_RUN_ID", hashlib.sha256(run.encode()).hexdigest()[:16]),
                resume="allow",
                dir=str(folder),
            )
        except Exception as error:  # wandb's own types: no key, no network, a project that is not there
            raise UserError(
                f"config.train.logs names 'wandb', which cannot start ({first_line(error)}): run `wandb login`, set "
                "WANDB_MODE=offline, or leave it out"
            ) from error
        self._run.define_metric("*", step_metric="step")

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        self._run.config.update(dict(hparams), allow_val_change=True)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._run.log({"step": step, **scalars})

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        self._run.log({"step": step, **{name: self._image(image) for name, image in images.items()}})

    def flush(self) -> None:
        """Nothing: wandb sends in the background."""

    def close(self) -> None:
        self._run.finish()


WRITERS: Mapping[str, Callable[[Path, str], Writer]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
"""Name in `config.train.logs` -> the class, made from a folder on this machine and the run's own folder or URL."""


class Several:
    """Writers as one. An error of one while training runs is logged once, and that writer is left out from then on."""

    def __init__(self, names: Sequence[str], folder: Path, run: str) -> None:
        for name in names:
            checks.one_of(f"config.train.logs: {name!r}", name, WRITERS)
        self._writers: dict[str, Writer] = {name: WRITERS[name](folder, run) for name in names}

    def _all(self, act: Callable[[Writer], None]) -> None:
        for name, writer in list(self._writers.items()):
            try:
                act(writer)
            except OSError:
                raise  # of the disk, which training reports
            except Exception as error:
                logging.warning(
                    "%s fails and is left out from here on (%s); metrics.jsonl has everything", name, first_line(error)
                )
                del self._writers[name]

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        self._all(lambda writer: writer.write_hparams(hparams))

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._all(lambda writer: writer.write_scalars(step, scalars))

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        self._all(lambda writer: writer.write_images(step, images))

    def flush(self) -> None:
        self._all(lambda writer: writer.flush())

    def close(self) -> None:
        self._all(lambda writer: writer.close())
