"""Several processes train like one, stop together, and end when one of them dies."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ernie_vilg_jax.sharding.watch import LOST
from tests.commands import on_devices, python_m
from tests.tiny_run import MakeConfig, train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WITHIN = 60.0
"""Seconds in which the others must have stopped when one is killed."""
# Enough steps that there is time for a kill, but few enough that rounding errors stay small: two processes differ from
# one by less than 3e-6 up to step 40, and by 7e-5 at step 60.
LONG = {"phases.autoencoder.steps": 40, "train.log_every": 1, "train.checkpoint_every": 0, "train.validate_every": 0}
LONG |= {"train.preview_every": 0}
SAVED = {**LONG, "train.checkpoint_every": 5}

Start = Callable[..., "Group"]


class Group:
    """Processes that train together; their output is in `<workdir>/host_<k>.log`.

    `last` is a flag for the last of them only. If they are `anew`, and not forked from one that has imported jax, then
    they can silence its C++.
    """

    def __init__(
        self,
        count: int,
        target: str,
        data: Path,
        workdir: Path,
        changes: dict[str, object],
        last: str | None,
        anew: bool,
    ) -> None:
        workdir.mkdir(exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [*python_m(), "ernie_vilg_jax.train", f"--config=configs/demo.py:{target},smoke"]
        command += [f"--config.data.path={data}", f"--workdir={workdir}", f"--coordinator=127.0.0.1:{port}"]
        command += [f"--num_processes={count}", *(f"--config.{name}={value}" for name, value in changes.items())]
        # One device each: the eight fake devices of the tests would be eight for each process.
        environment = {**os.environ, **on_devices(1)}
        if anew:
            del environment["TF_CPP_MIN_LOG_LEVEL"]
        self.metrics = workdir / target / "metrics.jsonl"
        self.logs = [workdir / f"host_{number}.log" for number in range(count)]
        self.processes = [
            subprocess.Popen(
                [*command, f"--process_id={number}", *([last] if last and number == count - 1 else [])],
                **{"cwd": ROOT, "env": environment, "stderr": log.open("w")},
            )
            for number, log in enumerate(self.logs)
        ]

    def wait(self, seconds: float = 300) -> list[int]:
        """The exit statuses of all."""
        deadline = time.monotonic() + seconds
        return [process.wait(max(deadline - time.monotonic(), 0.1)) for process in self.processes]

    def until_step(self, step: int) -> None:
        while not self.metrics.is_file() or max(numbers(self.metrics), default=0) < step:
            running = [process.poll() is None for process in self.processes]
            assert all(running), "\n".join(log.read_text() for log in self.logs)
            time.sleep(0.1)

    def log(self, number: int) -> str:
        return self.logs[number].read_text()


@pytest.fixture
def start(data: Path) -> Iterator[Start]:
    started: list[Group] = []

    def new(
        count: int, target: str, workdir: Path, last: str | None = None, anew: bool = False, **changes: object
    ) -> Group:
        started.append(Group(count, target, data, workdir, changes, last, anew))
        return started[-1]

    yield new
    for process in [process for group in started for process in group.processes]:
        process.kill()
        process.wait()


def numbers(metrics: Path) -> dict[int, dict[str, float]]:
    """The metrics of the model at each step; the last value counts if a step was done twice."""
    steps: dict[int, dict[str, float]] = {}
    for line in metrics.read_text().splitlines():
        if line.endswith("}"):  # the last line may be incomplete
            values = json.loads(line)
            found = {name: value for name, value in values.items() if re.match("train/|validation/", name)}
            steps.setdefault(values["step"], {}).update(found)
    return steps


def same(a: Path, b: Path, name: str = "") -> None:
    """The same steps, and the same numbers (those of the name, if there is one) at each of them.

    Sums over two processes round differently from sums in one, and training amplifies the difference at each step.
    """
    first, second = (
        {step: {n: value for n, value in values.items() if name in n} for step, values in numbers(file).items()}
        for file in (a, b)
    )
    assert first.keys() == second.keys()
    for step, values in first.items():
        assert second[step] == pytest.approx(values, rel=1e-5 * (1 + step / 10)), step


@pytest.fixture(scope="module")
def straight(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Metrics of the long run in a single process, never interrupted."""
    workdir = tmp_path_factory.mktemp("straight")
    train(make_config("autoencoder", **LONG), workdir)
    return workdir / "autoencoder" / "metrics.jsonl"


@pytest.mark.parametrize(
    ("count", "phase"),
    [
        pytest.param(2, "experts", marks=pytest.mark.proofs),
        *(pytest.param(*case, marks=pytest.mark.hosts) for case in [(2, "autoencoder"), (4, "experts")]),
    ],
)
def test_processes_train_like_one(count: int, phase: str, start: Start, whole_run: Path, tmp_path: Path) -> None:
    """Loss, gradient, every expert's loss, validation; and only process 0 writes and logs."""
    for target in ("autoencoder", "base") if phase == "experts" else ():
        shutil.copytree(whole_run / target, tmp_path / target)
    group = start(count, phase, tmp_path)
    assert group.wait() == [0] * count, group.log(0)
    same(whole_run / phase / "metrics.jsonl", group.metrics)
    assert f"{phase} step 8/8" in group.log(0)
    assert [group.log(number) for number in range(1, count)] == [""] * (count - 1)
    assert (tmp_path / phase / "previews" / "00000008.png").is_file()


@pytest.mark.hosts
@pytest.mark.parametrize("killed", [1, 0])
def test_a_killed_process_ends_all_and_the_same_command_resumes(
    killed: int, start: Start, straight: Path, tmp_path: Path
) -> None:
    group = start(2, "autoencoder", tmp_path, anew=True, **SAVED)
    group.until_step(12)
    group.processes[killed].kill()
    before = time.monotonic()
    statuses = group.wait(WITHIN)
    assert time.monotonic() - before < WITHIN
    left = 1 - killed
    assert (statuses[killed], statuses[left]) == (-signal.SIGKILL, LOST)
    errors = [line for line in group.log(left).splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line)]
    assert len(errors) == 1, group.log(left)
    assert re.fullmatch(
        rf"error: process {left}: process {killed}(, at 127.0.0.1:\d+, is gone| has given no sign of life for \d+ "
        "seconds); the same command on all processes resumes from the last checkpoint",
        errors[0],
    )

    group = start(2, "autoencoder", tmp_path, **SAVED)
    assert group.wait() == [0, 0], group.log(0)
    assert re.search(r"going on from step [1-4]?[05] ", group.log(0))
    same(straight, group.metrics, "train/loss")


@pytest.mark.proofs
def test_sigterm_to_one_stops_all_and_another_number_of_processes_resumes(
    start: Start, make_config: MakeConfig, straight: Path, tmp_path: Path
) -> None:
    group = start(2, "autoencoder", tmp_path, **LONG)
    group.until_step(5)
    group.processes[1].send_signal(signal.SIGTERM)
    assert group.wait(WITHIN) == [143, 143], group.log(0) + group.log(1)
    saved = [re.search(r"^process \d: saved step (\d+) in ", group.log(number), re.MULTILINE) for number in (0, 1)]
    steps = {found[1] for found in saved if found}
    assert len(steps) == 1, group.log(0) + group.log(1)
    assert max(numbers(group.metrics)) == int(steps.pop()) < LONG["phases.autoencoder.steps"]
    rows = [json.loads(line) for line in group.metrics.read_text().splitlines()]
    assert rows and all(row["step_seconds_spread"] >= 1 for row in rows), "each line is of both"
    assert "autoencoder step 5/40" in group.log(0) and "autoencoder step" not in group.log(1)
    train(make_config("autoencoder", **LONG), tmp_path)  # a single process resumes
    same(straight, group.metrics, "train/loss")


def test_an_error_of_one_process_is_reported_by_all(start: Start, tmp_path: Path) -> None:
    group = start(2, "autoencoder", tmp_path, last="--config.seed=3")
    assert group.wait(WITHIN) == [LOST, 1]
    told = "process 0 has config.seed=0, but process 1 has 3; start the same command with the same files on all "
    told += "processes\n"
    assert group.log(1) == f"error: process 1: {told}"
    assert group.log(0) == f"error: process 0: process 1 stopped: {told}"


def test_nobody_at_the_coordinator(data: Path, tmp_path: Path) -> None:
    command = [*python_m(), "ernie_vilg_jax.train", "--config=configs/demo.py:autoencoder,smoke"]
    command += [f"--config.data.path={data}", f"--workdir={tmp_path}", "--coordinator=127.0.0.1:9"]
    command += ["--num_processes=2", "--process_id=1", "--startup_timeout=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert re.fullmatch(
        r"error: --coordinator=127.0.0.1:9 did not answer process 1 within 1 seconds \(.*\); start .*\n", done.stderr
    )
