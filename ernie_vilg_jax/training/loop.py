"""The training loop: read batch, step, log, validate, preview, save; stop on SIGTERM; resume exactly.

The data are one endless stream, the same for any number of processes. A checkpoint stores the number of examples seen,
so that any number of processes can resume from it.

With several processes, all run this loop in lockstep: each reads its own rows of the batch, all save together and stop
after the same step, and losses are means over all rows. Only process 0 writes metrics and images.
"""

import signal
import threading
from collections.abc import Callable, Container, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Protocol

import jax
import numpy as np
from absl import logging
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.data.loader import make_loader, record_id
from ernie_vilg_jax.data.records import open_split, read_manifest
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sharding import processes, rules
from ernie_vilg_jax.sharding.rules import to_devices
from ernie_vilg_jax.training.items import Cutter
from ernie_vilg_jax.training.metrics import Meter, MetricWriter
from ernie_vilg_jax.training.profile import Profile
from ernie_vilg_jax.training.resume import Start
from ernie_vilg_jax.training.task import Batch, State, Task


class Evaluate(Protocol):
    """Scores of images that a task makes while it is trained.

    Attributes:
      higher_is_better: names of the scores of which this is true.
      enough: whether training may end, by what it has seen; asked after each evaluation.
    """

    @property
    def higher_is_better(self) -> Container[str]: ...

    @property
    def enough(self) -> bool: ...

    def begin(self, task: Any, state: State, step: int) -> None:
        """Called once before the first step, with the state that training starts or resumes from."""
        ...

    def __call__(self, task: Any, state: State, step: int) -> dict[str, float]: ...


class Stopped(Exception):
    """Training was stopped by a signal, after saving."""


class NonFinite(UserError):
    """The loss is NaN or infinite."""


def train(
    task: Task,
    config: ConfigDict,
    tokenizer: Tokenizer,
    mesh: Mesh,
    directory: epath.Path,
    start: Start | None = None,
    profile_steps: tuple[int, int] | None = None,
    evaluate: Evaluate | None = None,
) -> State:
    """Trains `task` to its last step in `directory`, from the checkpoint `start` if there is one.

    `evaluate` is called every `config.evaluation.every` steps; what it returns is logged.

    A trace of `profile_steps` goes to the folder `profile` in it (`profile.parse_window`).
    Returns the final state. Raises Stopped after SIGTERM or SIGINT (a checkpoint is saved), NonFinite when a loss is
    not finite (nothing is saved), UserError for a damaged checkpoint.
    A save in progress is always finished first.
    """
    settings = config.train
    fingerprint = read_manifest(config.data.path)["fingerprint"]
    metadata = checkpointing.make_metadata(config, phase=config.phase, data=fingerprint, **task.notes)
    words = checkpointing.pack_tokenizer(tokenizer)
    lower = evaluate is None or settings.keep_best not in evaluate.higher_is_better
    best = {"metric": settings.keep_best, "lower": lower, "writes": processes.index() == 0}
    saved = checkpointing.Checkpoints(directory / "checkpoints", settings.keep_checkpoints, **best)
    with finishing(saved):
        if start is not None:
            metadata["changes"] = list(start.changes)
        cutter = Cutter(task, mesh)
        going = _start(task, config, cutter, start)
        more = words, profile_steps, evaluate
        return _run(task, config, tokenizer, mesh, directory, saved, cutter, going, metadata, *more)


def _run(
    task: Task,
    config: ConfigDict,
    tokenizer: Tokenizer,
    mesh: Mesh,
    directory: epath.Path,
    saved: checkpointing.Checkpoints,
    cutter: Cutter,
    going: tuple[State, int],
    metadata: dict[str, Any],
    words: dict[str, np.ndarray],
    profile_steps: tuple[int, int] | None,
    evaluate: Evaluate | None,
) -> State:
    """The loop itself, from a state that has seen `examples_seen` examples."""
    settings, (state, seen) = config.train, going
    step = int(state["step"])
    rows = processes.own_rows(rules.batch_sharding(mesh), task.batch_size)
    if step < task.steps:
        cutter.compile()
    where = {"batch_size": task.batch_size, "rows": rows, "start": seen}
    data = _batches(task, mesh, rows, seen, lambda: make_loader(config, tokenizer, **where, seed=config.seed))

    with (
        closing(data),  # ends its worker processes
        MetricWriter(directory, processes.index() == 0, settings.logs) as writer,
        stop_requests() as asked_to_stop,
        ExitStack() as ending,
    ):
        writer.settings(config)
        meter = Meter(task, config, step)
        profile = Profile(profile_steps, directory / "profile", step, task.steps)
        ending.callback(profile.close)
        profile.at(step, state)
        waiting: tuple[int, dict[str, jax.Array], np.ndarray] | None = None
        if evaluate is not None and step < task.steps:
            with meter.paused():
                evaluate.begin(task, state, step)
        enough = False
        while step < task.steps and not enough:
            with meter.reading():
                batch, records = next(data)
            meter.step_of(batch, step + 1)
            state, metrics = task.train_step(state, batch)
            # The metrics of the previous step are read while this one runs, so the device never waits for the process.
            if waiting is not None:
                meter.add(_checked(*waiting, rows, config))
            step += 1
            seen += task.batch_size
            waiting = (step, metrics, records)
            stop = asked_to_stop(step)
            last = step == task.steps or stop
            due = lambda every, last=last, step=step: last or (every and step % every == 0)  # noqa: E731
            # Not if there is no time left, and not if the interval is 0 (never).
            shown = lambda every, due=due, stop=stop: every and due(every) and not stop  # noqa: E731
            if due(settings.log_every) or due(settings.checkpoint_every):
                meter.add(_checked(*waiting, rows, config))
                waiting = None
                if due(settings.log_every):
                    writer.scalars(step, meter.report(step))
            with meter.paused():
                profile.at(step, metrics)
                validates = shown(settings.validate_every)
                evaluates = evaluate is not None and shown(config.evaluation.every)
                # Saved first, so that a failure of validation or previews loses nothing.
                if due(settings.checkpoint_every) or (settings.keep_best and (validates or evaluates)):
                    items = {**cutter.items(state), "tokenizer": words}
                    saved.save(step, items, {**metadata, "examples": seen})
                    del items  # the device has room for one such copy
                values = _validate(task, state, config.phase, step) if validates else {}
                if evaluate is not None and evaluates:
                    values |= {f"evaluation/{name}": value for name, value in evaluate(task, state, step).items()}
                if values:
                    writer.scalars(step, values)
                    plain = {name.partition("/")[2]: value for name, value in values.items()}
                    # The other one of validation and evaluation, if there are both, may measure it at another step.
                    if evaluate is None or settings.keep_best in plain or (validates and evaluates):
                        saved.best.consider(step, plain)
                enough = evaluate is not None and evaluates and evaluate.enough
                if shown(settings.preview_every):
                    writer.images(step, *task.preview(state))
            if stop:
                saved.wait()
                raise Stopped(f"saved step {step} in {saved.directory}; the same command goes on from there")
    return state


def _batches(
    task: Task, mesh: Mesh, rows: Sequence[int], seen: int, make: Callable[[], Any]
) -> Generator[tuple[Batch, np.ndarray]]:
    """Batches on the devices, after `seen` examples, and the records [b] in this process's `rows` of each.

    They come from the loader that `make` makes, unless the task draws them itself.
    """
    if task.resident is not None:
        yield from task.resident.batches(seen, task.batch_size, rows)
    loader = iter(make())
    with closing(loader):
        for batch in loader:
            yield to_devices(task.host_batch(batch), mesh, task.batch_size), batch["index"]


@contextmanager
def finishing(saved: checkpointing.Checkpoints) -> Iterator[None]:
    """Closes `saved` at the end of the block, also after an exception: a save in progress is finished."""
    try:
        yield
    except BaseException:
        try:
            saved.close()
        except UserError as error:  # the error that ended the block is raised; this one is logged
            logging.error("%s", error)
        raise
    saved.close()


def _start(task: Task, config: ConfigDict, cutter: Cutter, start: Start | None) -> tuple[State, int]:
    """The state of a checkpoint, or a fresh one without it; and the number of examples it has seen."""
    if start is None:
        return task.init(jax.random.key(config.seed)), 0
    path, step, _ = start
    restored = checkpointing.read_items(path, cutter.abstract)
    logging.info("going on from step %d (%s)", step, path)
    seen = checkpointing.examples_seen(checkpointing.read_metadata(path), step, task.batch_size)
    return {**cutter.state(restored), **task.fixed}, seen


def _validate(task: Task, state: State, phase: str, step: int) -> dict[str, float]:
    values = task.validate(state)
    shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
    logging.info("%s step %d validation: %s", phase, step, shown)
    return {f"validation/{name}": value for name, value in values.items()}


def _checked(
    step: int, metrics: dict[str, jax.Array], index: np.ndarray, rows: Sequence[int], config: ConfigDict
) -> dict[str, float]:
    """The scalar metrics of a step. Raises NonFinite with the step and the records whose loss is not finite.

    Args:
      metrics: of the whole batch; "per_sample" [B].
      index: the records [b] in this process's rows.
      rows: indices [b] of these rows in the batch.
    """
    scalars = {name: value for name, value in metrics.items() if name != "per_sample"}
    values = {name: float(value) for name, value in jax.device_get(scalars).items()}  # one wait for all
    if np.isfinite(values["loss"]) and np.isfinite(values["grad_norm"]):
        return values
    losses = np.asarray(metrics["per_sample"])
    bad = index[~np.isfinite(losses[list(rows)])]
    source = open_split(config.data.path, "train", verify=False)
    names = [record_id(source, int(i)) for i in bad[:8]]
    if len(bad):
        where = f"in {len(bad)} records: {', '.join(names)}"
    elif np.isfinite(losses).all():
        where = "in no single record: the gradient overflowed"
    else:
        where = "in records of other processes, which name them"
    raise NonFinite(
        f"{config.phase} stopped: the loss of step {step} is not finite, {where}; nothing was saved after it. "
        f"Lower --config.phases.{config.phase}.learning_rate or look at these records, then run the same command again"
    )


@contextmanager
def stop_requests() -> Iterator[Callable[[int], bool]]:
    """A function of the step just done: whether to save and stop after it. Call it after every step.

    SIGTERM (preemption) and SIGINT (Ctrl-C) make it return True; a second Ctrl-C interrupts at once. With several
    processes a signal to one of them is enough, and it returns True in all of them at the same step.
    """
    event = threading.Event()
    many = processes.count() > 1

    def handler(number: int, frame: Any) -> None:
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        logging.warning("%s: saving after this step, then stopping", signal.Signals(number).name)
        event.set()
        if many:
            signal.raise_signal(signal.SIGTERM)

    # jax.distributed has its own handler for SIGTERM, with which the processes agree on a step.
    numbers = (signal.SIGINT,) if many else (signal.SIGTERM, signal.SIGINT)
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield multihost_utils.reached_preemption_sync_point if many else lambda _: event.is_set()
    finally:
        for number, old in before.items():
            signal.signal(number, old)
