"""Kills a training run again and again, and compares where it ends with a run that nobody touched.

    python -m benchmarks.chaos --work=/tmp/chaos                        # 50 kills, then the seconds that SIGTERM takes
    python -m benchmarks.chaos --work=/tmp/chaos --processes=2 --kills=20

A small bank of four experts with everything on: accumulation, averages, knowledge, a trained text encoder, a checkpoint
every few steps. `python -m ernie_vilg_jax.train` gets SIGKILL at a random moment (while it starts, while it trains, or
while a save is under way) and is started again by the same command until it is done. Then all arrays of its last
checkpoint and the losses of all steps, those that were done twice included, must be those of an unbroken run, bit for
bit. Of two processes one is killed; the other must end by itself within a minute, with status 170.

A line of JSON per kill goes to DIR/kills_<processes>.jsonl. The same command goes on where it was stopped.
Exit status 1 if anything differs.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parents[1]
STEPS, SAVE_EVERY = 60, 3
LOST = 170
"""Exit status of a process that another one left (`ernie_vilg_jax.sharding.watch`)."""
WITHIN = 60.0
"""Seconds in which it must have ended."""
PATIENCE = 600.0
"""Seconds after which a life that nobody kills has failed."""
CHANGES = {
    "experts.n": 4,
    "experts.train_text_encoder": True,
    "train.log_every": 1,
    "train.checkpoint_every": SAVE_EVERY,
    "train.keep_checkpoints": 2,
    "train.validate_every": 0,
    "train.preview_every": 0,
    **{f"phases.{phase}.batch_size": 16 for phase in ("base", "experts")},
    **{f"phases.{phase}.accumulation_steps": 2 for phase in ("base", "experts")},
    "phases.experts.steps": STEPS,
}
SMOKE = "smoke,knowledge"


@dataclass
class Life:
    """From a start of the command to its end, for all processes of it."""

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
        """The step it went on from; 0 for a fresh start, -1 if it never came so far."""
        found = re.search(r"going on from step (\d+)", self.log())
        return int(found[1]) if found else 0 if re.search(r"experts step \d", self.log()) else -1

    def trains(self) -> bool:
        """Whether it has done a step."""
        return size(self.folder / "metrics.jsonl") > self.measured

    def saving(self) -> bool:
        """Whether a save is under way; what an earlier kill left behind is none."""
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
    # Optimising what runs for a second takes longer than it saves.
    env["XLA_FLAGS"] = "" if optimized else "--xla_backend_optimization_level=0"
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
    """Waits for a life that nobody kills. Exits with its log if it fails."""
    try:
        for process in life.processes:
            if process.wait(PATIENCE):
                raise SystemExit(f"{what} failed with status {process.returncode}:\n{life.log()}")
    finally:
        life.end()


def experts_line(work: Path, phase: str = "experts") -> list[str]:
    changes = [f"--config.{name}={value}" for name, value in CHANGES.items()]
    return [f"--config=configs/demo.py:{phase},{SMOKE}", f"--config.data.path={work / 'annotated'}", *changes]


def make_start(work: Path, processes: int) -> Path:
    """Data, what the experts begin from, and the unbroken run; each made once. Returns the unbroken run's folder."""

    def command(module: str, *arguments: str) -> None:
        line = [sys.executable, "-m", f"ernie_vilg_jax.{module}", *arguments]
        subprocess.run(line, cwd=ROOT, env=environment(work), check=True)

    if not (work / "annotated" / "manifest.json").is_file():
        command("prepare", f"--config=configs/demo.py:base,{SMOKE}", f"--output={work / 'data'}")
        command("annotate", f"--input={work / 'data'}", f"--output={work / 'annotated'}")
    for phase in ("autoencoder", "base"):
        done(start(work, work / "start", experts_line(work, phase), phase), phase)
    unbroken = work / f"unbroken_{processes}"
    begin(work, unbroken)
    before = time.monotonic()
    done(start(work, unbroken, experts_line(work), "experts", processes), "the unbroken run")
    print(f"unbroken run of {STEPS} steps: {time.monotonic() - before:.0f} s", flush=True)
    return unbroken


def begin(work: Path, workdir: Path) -> None:
    """A workdir in which the experts can start; one that is there already is left as it is."""
    for phase in ("autoencoder", "base"):
        if not (workdir / phase).is_dir():
            shutil.copytree(work / "start" / phase, workdir / phase)


def metrics(folder: Path) -> tuple[dict[int, set[str]], int]:
    """What was measured in training at each step, as text, one entry if it was always the same; and damaged lines."""
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


def differences(folder: Path, unbroken: Path) -> list[str]:
    """In what a finished run differs from the unbroken one."""
    from benchmarks.damage.uses import checkpoint_digests

    ours, theirs = (checkpoint_digests(one / "checkpoints" / str(STEPS)) for one in (folder, unbroken))
    found = [f"arrays of {name}" for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
    ours, theirs = (metrics(one)[0] for one in (folder, unbroken))
    return found + [f"losses of step {step}" for step in sorted({*ours, *theirs}) if ours.get(step) != theirs.get(step)]


def await_moment(life: Life, rng: Random, processes: int) -> str:
    """Waits for a random moment of a life, or for its end. Returns what kind of moment it is."""
    moment = rng.choices(("start", "training", "saving"), (2, 4, 5))[0]
    wait, saves, offset = rng.uniform(0, 12), rng.randint(1, 4), rng.choice((0.0, rng.uniform(0, 0.4)))
    was_saving = False
    while life.running():
        if moment == "start" and (processes == 1 or "experts on" in life.log()):
            break  # several must have found each other: before that the other one waits for --startup_timeout
        if moment == "training" and life.trains():
            break
        if moment == "saving":
            saves -= (saving := life.saving()) and not was_saving
            was_saving = saving
            if not saves:
                break
        time.sleep(0.005)
    limit = time.monotonic() + (offset if moment == "saving" else wait if moment == "start" else wait / 2)
    while life.running() and time.monotonic() < limit:
        time.sleep(0.005)
    return moment


def one_life(work: Path, workdir: Path, number: int, seed: int, processes: int) -> dict[str, Any]:
    """Starts the command and kills it, or lets it come to its end; what became of it, for the file of kills."""
    rng = Random(f"{seed}/{processes}/{number}")
    life = start(work, workdir, experts_line(work), "experts", processes)
    row: dict[str, Any] = {"number": number, "workdir": workdir.name}
    try:
        row["moment"] = await_moment(life, rng, processes)
        row |= {"seconds": round(time.monotonic() - life.since, 2), "saving": life.saving()}
        victim = rng.randrange(processes)
        row["killed"] = life.processes[victim].poll() is None
        life.processes[victim].kill()
        before = time.monotonic()
        statuses = []
        for process in life.processes:
            try:
                statuses.append(process.wait(PATIENCE if not row["killed"] else WITHIN))
            except subprocess.TimeoutExpired:
                statuses.append(None)
        row |= {"began": life.began(), "step": steps_done(life.folder), "statuses": statuses}
        row["killed"] = row["killed"] and statuses[victim] == -signal.SIGKILL
        others = [status for place, status in enumerate(statuses) if place != victim]
        if row["killed"] and processes > 1:
            row |= {"victim": victim, "others_after": round(time.monotonic() - before, 1)}
            row["fault"] = "" if set(others) <= {LOST, 0} else f"the others ended with {others}"
        elif not row["killed"]:
            row["fault"] = "" if set(statuses) == {0} else f"it ended with {statuses}"
        if "Traceback" in "".join(life.log(place) for place in range(processes)):
            row["fault"] = "a traceback"
        if row.get("fault"):
            row["logs"] = [life.log(place)[-2000:] for place in range(processes)]
    finally:
        life.end()
    return row


def kill_all(work: Path, unbroken: Path, kills: int, seed: int, processes: int) -> list[dict[str, Any]]:
    """Runs and kills until there were so many kills and the last run is done; returns a row for every life."""
    file = work / f"kills_{processes}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    while sum(row["killed"] for row in rows) < kills or rows[-1]["killed"]:
        turn = sum("differences" in row for row in rows)
        workdir = work / f"run_{processes}_{turn}"
        begin(work, workdir)
        enough = sum(row["killed"] for row in rows) >= kills
        if enough:
            life = start(work, workdir, experts_line(work), "experts", processes)
            done(life, "the last run")
            row = {"number": len(rows), "workdir": workdir.name, "killed": False, "began": life.began()}
        else:
            row = one_life(work, workdir, len(rows), seed, processes)
        if not row["killed"] and not row.get("fault"):
            row["differences"] = differences(workdir / "experts", unbroken / "experts")
            row["damaged_lines"] = metrics(workdir / "experts")[1]
            if not row["differences"]:
                shutil.rmtree(workdir)
        rows.append(row)
        with file.open("a") as lines:
            lines.write(json.dumps(row) + "\n")
        print({name: value for name, value in row.items() if name != "logs"}, flush=True)
        if row.get("fault"):
            break
    return rows


def summary(rows: list[dict[str, Any]], processes: int) -> str:
    """What the kills came to, as Markdown."""
    killed = [row for row in rows if row["killed"]]
    ended = [row for row in rows if "differences" in row]
    moments = Counter(row["moment"] for row in killed)
    different = [text for row in ended for text in row["differences"]]
    lines = [
        f"{len(killed)} kills of {processes} process{'es' if processes > 1 else ''}: "
        + ", ".join(f"{count} aimed at {moment}" for moment, count in sorted(moments.items()))
        + f"; {sum(row['saving'] for row in killed)} left a save unfinished.",
        f"{sum(row['began'] > 0 for row in rows)} starts went on from a checkpoint (steps "
        f"{min((row['began'] for row in rows if row['began'] > 0), default=0)} to "
        f"{max((row['began'] for row in rows), default=0)}), {sum(row['began'] == 0 for row in rows)} from step 0.",
        f"{len(ended)} runs came to their end: {len(different)} differences from the unbroken run"
        + (f": {', '.join(different[:10])}." if different else ", in arrays or losses."),
        f"{sum(row.get('damaged_lines', 0) for row in ended)} damaged lines of metrics.jsonl.",
    ]
    after = [row["others_after"] for row in killed if "others_after" in row]
    if after:
        lines.append(
            f"The other process ended {statistics.median(after):.0f} s later (median), {max(after):.0f} s at most."
        )
    lines += [f"fault of start {row['number']}: {row['fault']}" for row in rows if row.get("fault")]
    return "\n".join(lines)


def sigterm(work: Path) -> str:
    """Seconds from SIGTERM to the exit with a saved checkpoint, for the demo config at its full size, by phase."""
    data, workdir = work / "shapes", work / "sigterm"
    if not (data / "manifest.json").is_file():
        line = [sys.executable, "-m", "ernie_vilg_jax.prepare", "--config=configs/demo.py:base,shapes"]
        subprocess.run([*line, f"--output={data}"], cwd=ROOT, env=environment(work), check=True)
    shutil.rmtree(workdir, ignore_errors=True)
    lines = ["| phase | seconds of a step | from SIGTERM to the exit, s |", "| --- | --- | --- |"]
    for phase in ("autoencoder", "base", "experts"):
        line = [f"--config=configs/demo.py:{phase},shapes", f"--config.data.path={data}", "--config.train.log_every=1"]
        life = start(work, workdir, line, phase, optimized=True)
        while steps_done(life.folder) < 4:
            if not life.running():
                raise SystemExit(f"{phase} ended too soon:\n{life.log()}")
            time.sleep(0.05)
        times = [json.loads(row)["time"] for row in (life.folder / "metrics.jsonl").read_text().splitlines()[:4]]
        before = time.monotonic()
        life.processes[0].send_signal(signal.SIGTERM)
        status = life.processes[0].wait(PATIENCE)
        seconds = time.monotonic() - before
        if status != 143 or not re.search(r"saved step \d+", life.log()):
            raise SystemExit(f"{phase} ended with {status}:\n{life.log()}")
        lines.append(f"| {phase} | {times[3] - times[2]:.1f} | {seconds:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        "benchmarks.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", required=True, type=Path, help="folder for everything, 300 MB")
    parser.add_argument("--kills", type=int, default=50, help="how many")
    parser.add_argument("--processes", type=int, default=1, choices=(1, 2), help="processes of the run")
    parser.add_argument("--seed", type=int, default=0, help="another seed kills at other moments")
    parser.add_argument("--sigterm", action=argparse.BooleanOptionalAction, help="measure SIGTERM (with one process)")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    if arguments.kills:
        unbroken = make_start(work, arguments.processes)
        rows = kill_all(work, unbroken, arguments.kills, arguments.seed, arguments.processes)
        print(summary(rows, arguments.processes), flush=True)
    if arguments.sigterm if arguments.sigterm is not None else arguments.processes == 1:
        print(sigterm(work))
    sys.exit(int(any(row.get("fault") or row.get("differences") for row in rows)))


if __name__ == "__main__":
    main()
