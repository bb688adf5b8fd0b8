"""The training loop: read batch, step, log, validate, preview, save; stop on SIGTERM; go on where it stopped.

One pass, in this order because exact resume depends on it:

    batch = next(data)            the iterator now stands after this batch
    state = step(state, batch)
    save(state, data)             before the next batch is drawn: both stand after `step`
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax.data.loader import make_loader, record_id
from ernie_vilg_jax.data.records import open_split, read_manifest
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.parallel import rules
from ernie_vilg_jax.training import checkpoints
from ernie_vilg_jax.training.flops import peak_flops
from ernie_vilg_jax.training.metrics import MetricWriter, duration
from ernie_vilg_jax.training.task import Batch, State, Task


class Stopped(Exception):
    """Training was asked to stop, and saved first."""


class NonFinite(UserError):
    """The loss is no number any more."""


def train(task: Task, config: ConfigDict, tokenizer: Tokenizer, mesh: Mesh, directory: Path) -> State:
    """Trains `task` to its last step in `directory`, from the newest checkpoint there if there is one.

    Returns the final state. Raises Stopped after SIGTERM or SIGINT (a checkpoint is saved), NonFinite when a loss is
    not finite (nothing is saved), UserError for a checkpoint of another config or of other data.
    """
    settings = config.train
    fingerprint = read_manifest(config.data.path)["fingerprint"]
    metadata = checkpoints.make_metadata(config, target=config.target, data=fingerprint, workers=config.data.workers)
    words = checkpoints.pack_tokenizer(tokenizer)
    hosts, host = jax.process_count(), jax.process_index()
    loader = make_loader(
        config, tokenizer, batch_size=task.batch_size // hosts, host=host, hosts=hosts, seed=config.seed
    )
    data = iter(loader)
    saved = checkpoints.Checkpoints(directory / "checkpoints", settings.keep_checkpoints)
    state = _start(task, config, saved, data, mesh, metadata)
    step = int(state["step"])

    with MetricWriter(directory, enabled=host == 0) as writer, stop_requests() as stop:
        meter = _Meter(task, config.target, step)
        waiting: tuple[int, dict[str, jax.Array], np.ndarray] | None = None
        while step < task.steps:
            numpy_batch = next(data)
            batch = to_devices(task.host_batch(numpy_batch), mesh)
            state, metrics = task.train_step(state, batch)
            # The step before is looked at while this one runs: the device never waits for the host.
            if waiting is not None:
                meter.add(_checked(*waiting, config))
            step += 1
            waiting = (step, metrics, numpy_batch["index"])
            last = step == task.steps or stop.is_set()
            due = lambda every, last=last, step=step: last or (every and step % every == 0)  # noqa: E731
            if due(settings.log_every) or due(settings.checkpoint_every):
                meter.add(_checked(*waiting, config))
                waiting = None
                if due(settings.log_every):
                    writer.scalars(step, meter.report(step, batch))
            with meter.paused():
                if due(settings.validate_every) and not stop.is_set():
                    writer.scalars(step, _validate(task, state, config.target, step))
                if due(settings.preview_every) and not stop.is_set():
                    writer.images(step, *task.preview(state))
                if due(settings.checkpoint_every):
                    saved.save(step, {**task.items(state), "tokenizer": words, "data": data}, metadata)
            if stop.is_set():
                saved.close()
                raise Stopped(f"saved step {step} in {saved.directory}; the same command goes on from there")
    saved.close()
    return state


def _start(
    task: Task, config: ConfigDict, saved: checkpoints.Checkpoints, data: Any, mesh: Mesh, metadata: dict[str, Any]
) -> State:
    """The newest checkpoint of the run, or a fresh state when there is none."""
    newest = saved.latest
    if newest is None:
        return task.init(jax.random.key(config.seed))
    path = saved.path(newest)
    checkpoints.check_same(path, config, config.target)
    before = checkpoints.read_metadata(path)
    if before["data"] != metadata["data"]:
        raise UserError(
            f"checkpoint {path} was trained on other data than --config.data.path={config.data.path}; "
            "give the folder it was trained on, or start anew with another --workdir"
        )
    if before["workers"] != metadata["workers"]:
        raise UserError(
            f"checkpoint {path} was saved with --config.data.workers={before['workers']}, and its place in the data "
            "can only be found again with as many"
        )
    items = jax.eval_shape(task.items, task.abstract)
    abstract = rules.placed(items, rules.shardings(items, mesh))
    restored = checkpoints.read_items(path, {**abstract, "data": data})
    restored.pop("data")
    logging.info("going on from step %d (%s)", newest, path)
    return jax.jit(task.state, out_shardings=task.shardings)(restored)


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> Batch:
    """This host's share of a batch as global arrays, their first axis over the mesh."""
    sharding = rules.batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def _validate(task: Task, state: State, target: str, step: int) -> dict[str, float]:
    values = task.validate(state)
    shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
    logging.info("%s step %d validation: %s", target, step, shown)
    return {f"validation/{name}": value for name, value in values.items()}


def _checked(step: int, metrics: dict[str, jax.Array], index: np.ndarray, config: ConfigDict) -> dict[str, float]:
    """The scalar metrics of a step. Raises NonFinite naming the step and the records whose loss is no number."""
    values = {name: float(value) for name, value in metrics.items() if name != "per_sample"}
    if np.isfinite(values["loss"]) and np.isfinite(values["grad_norm"]):
        return values
    # On several hosts each names its own records.
    shards = metrics["per_sample"].addressable_shards
    losses = np.concatenate([np.asarray(shard.data) for shard in shards])[: len(index)]
    bad = index[~np.isfinite(losses[: len(index)])]
    source = open_split(config.data.path, "train")
    names = [record_id(source, int(i)) for i in bad[:8]]
    where = f"in {len(bad)} records: {', '.join(names)}" if len(bad) else "in no single record: the gradient overflowed"
    raise NonFinite(
        f"{config.target} stopped: the loss of step {step} is not finite, {where}; nothing was saved after it. "
        f"Lower --config.{config.target}.learning_rate or look at these records, then run the same command again"
    )


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that SIGTERM (preemption) and SIGINT (Ctrl-C) set; a second Ctrl-C interrupts at once."""
    event = threading.Event()

    def handler(number: int, frame: Any) -> None:
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        logging.warning("%s: saving after this step, then stopping", signal.Signals(number).name)
        event.set()

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class _Meter:
    """Means over the steps since the last report, and the rate at which they went."""

    def __init__(self, task: Task, target: str, step: int) -> None:
        self.task, self.target = task, target
        self.sums: dict[str, float] = {}
        self.count = 0
        self.flops: float | None = None
        self.step, self.mark = step, time.monotonic()

    def add(self, values: dict[str, float]) -> None:
        self.count += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent in here does not count towards the rate."""
        start = time.monotonic()
        yield
        self.mark += time.monotonic() - start

    def report(self, step: int, batch: Batch) -> dict[str, float]:
        if self.flops is None:
            self.flops = self.task.flops_per_step(batch)
        seconds = max(time.monotonic() - self.mark, 1e-9)
        steps = max(step - self.step, 1)
        means = {name: total / max(self.count, 1) for name, total in self.sums.items()}
        rate = steps * self.task.batch_size / seconds
        work = steps * self.flops / seconds
        peak = peak_flops()
        speed = {"images_per_second": rate, "tflop_per_second": work / 1e12}
        if peak:
            speed["mfu"] = work / peak
        used = f"{speed['mfu']:.1%} MFU" if peak else f"{work / 1e9:.0f} GFLOP/s"
        logging.info(
            "%s step %d/%d  loss %.4f  gradient %.3f  %.1f images/s  %s  %s left",
            *(self.target, step, self.task.steps, means["loss"], means["grad_norm"], rate, used),
            duration((self.task.steps - step) * seconds / steps),
        )
        self.sums, self.count, self.step, self.mark = {}, 0, step, time.monotonic()
        return {**{f"train/{name}": value for name, value in means.items()}, **speed}
