"""Lives of a training command, for chaos.py: its start, log and metrics, and the undisturbed run."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import quick

ROOT = Path(__file__).parents[1]
PATIENCE = 600.0
"""Seconds after which a life that is not killed has failed."""
CHANGES = {
    "experts.n": 4,
    "experts.train_text_encoder": True,
    "train.log_every": 1,
    "train.checkpoint_every": 3,
    "train.keep_checkpoints": 2,
    "train.validate_every": 0,
    "train.preview_every": 0,
    **{f"phases.{phase}.batch_size": 16 for phase in ("base", "experts")},
    **{f"phases.{phase}.accumulation_steps": 2 for phase in ("base", "experts")},
}
SMOKE = "smoke,knowledge"


@dataclass(frozen=True)
class Plan:
    """The flags."""

    work: Path
    kills: int
    steps: int
    processes: int
    seed: int

    def line(self, phase: str = "experts") -> list[str]:
        changes = {**CHANGES, "phases.experts.steps": self.steps}
        flags = [f"--config.{name}={value}" for name, value in changes.items()]
        return [f"--config=configs/demo.py:{phase},{SMOKE}", f"--config.data.path={self.work / 'annotated'}", *flags]

    def start(self, workdir: Path) -> "Life":
        """Starts the experts."""
        return start(self.work, workdir, self.line(), "experts", self.processes)


@dataclass
class Life:
    """One start of the command to its end, with all its processes."""

    processes: list[subprocess.Popen[bytes]]
    logs: list[Path]
    folder: Path
    """Of the phase: metrics.jsonl and checkpoints/."""
    since: float
    measured: int
    """Size of metrics.jsonl before."""

    def running(self) -> bool:
        return all(process.poll() is None for process in self.processes)

    def log(self, number: int = 0) -> str:
        return self.logs[number].read_text(errors="replace")

    def began(self) -> int:
        """The step it resumed from; 0 for a fresh start, -1 if it did not get that far."""
        found = re.search(r"going on from step (\d+)", self.log())
        return int(found[1]) if found else 0 if re.search(r"experts step \d", self.log()) else -1

    def trains(self) -> bool:
        """Whether it has done a step."""
        return size(self.folder / "metrics.jsonl") > self.measured

    def saving(self) -> bool:
        """Whether a save is in progress; the remains of an earlier kill do not count."""
        return self.trains() and any((self.folder / "checkpoints").glob("*tmp*"))

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def environment(work: Path, optimized: bool = False) -> dict[str, str]:
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(work / "xla")}
    env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    env["XLA_FLAGS"] = "" if optimized else quick.XLA_FLAGS
    return env


def start(work: Path, workdir: Path, line: list[str], phase: str, processes: int = 1, optimized: bool = False) -> Life:
    """Starts `python -m ernie_vilg_jax.train` with a line, as one process or several."""
    workdir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ernie_vilg_jax.train", *line, f"--workdir={workdir}"]
    if processes > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command += [f"--coordinator=127.0.0.1:{port}", f"--num_processes={processes}"]
    logs = [work / "logs" / f"{workdir.name}_{number}.log" for number in range(processes)]
    logs[0].parent.mkdir(exist_ok=True)
    started, measured = [], size(workdir / phase / "metrics.jsonl")
    for number, log in enumerate(logs):
        more = [f"--process_id={number}"] if processes > 1 else []
        with log.open("wb") as file:
            streams = {"stdout": file, "stderr": file, "stdin": subprocess.DEVNULL}
            env = environment(work, optimized)
            started.append(subprocess.Popen([*command, *more], cwd=ROOT, env=env, **streams))
    return Life(started, logs, workdir / phase, time.monotonic(), measured)


def done(life: Life, what: str) -> None:
    """Waits for a life that is not killed. Exits with its log if it fails."""
    try:
        for process in life.processes:
            if process.wait(PATIENCE):
                raise SystemExit(f"{what} failed with status {process.returncode}:\n{life.log()}")
    finally:
        life.end()


def make_start(plan: Plan) -> Path:
    """Makes data, the experts' base and the unbroken run, each once. Returns the unbroken run's folder."""
    work, unbroken = plan.work, plan.work / f"unbroken_{plan.processes}"
    if (unbroken / "experts" / "checkpoints" / str(plan.steps)).is_dir():
        return unbroken

    def command(module: str, *arguments: str) -> None:
        line = [sys.executable, "-m", f"ernie_vilg_jax.{module}", *arguments]
        subprocess.run(line, cwd=ROOT, env=environment(work), check=True)

    if not (work / "annotated" / "manifest.json").is_file():
        command("prepare", f"--config=configs/demo.py:base,{SMOKE}", f"--output={work / 'data'}")
        command("annotate", f"--input={work / 'data'}", f"--output={work / 'annotated'}")
    for phase in ("autoencoder", "base"):
        done(start(work, work / "start", plan.line(phase), phase), phase)
    begin(work, unbroken)
    before = time.monotonic()
    done(plan.start(unbroken), "the unbroken run")
    print(f"unbroken run of {plan.steps} steps: {time.monotonic() - before:.0f} s", flush=True)
    return unbroken


def begin(work: Path, workdir: Path) -> None:
    """Prepares a workdir in which the experts can start; an existing one is left alone."""
    for phase in ("autoencoder", "base"):
        if not (workdir / phase).is_dir():
            shutil.copytree(work / "start" / phase, workdir / phase)


def metrics(folder: Path) -> tuple[dict[int, set[str]], int]:
    """Training metrics of each step, as text (one entry if always the same), and the number of damaged lines."""
    found: dict[int, set[str]] = {}
    damaged = 0
    file = folder / "metrics.jsonl"
    for line in file.read_text().splitlines() if file.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            damaged += 1
            continue
        values = {name: value for name, value in row.items() if name.startswith("train/")}
        if values:
            found.setdefault(row["step"], set()).add(json.dumps(values, sort_keys=True))
    return found, damaged


def steps_done(folder: Path) -> int:
    return max(metrics(folder)[0], default=0)
