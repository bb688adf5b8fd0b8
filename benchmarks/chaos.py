"""Kills a training run again and again, and compares its end with an undisturbed run.

    python -m benchmarks.chaos --work=/tmp/chaos                        # 50 kills, then the time that SIGTERM takes
    python -m benchmarks.chaos --work=/tmp/chaos --processes=2 --kills=20

A small bank of four experts with everything on: accumulation, averages, knowledge, a trained text encoder, a checkpoint
every few steps. `python -m ernie_vilg_jax.train` gets SIGKILL at a random moment (during start-up, training or a save)
and is started again by the same command until it is done. Then all arrays of its last checkpoint and the losses of all
steps, including repeated ones, must equal those of an unbroken run, bit for bit. With two processes, one is killed; the
other must exit by itself within a minute, with status 170.

A line of JSON per kill goes to DIR/kills_<processes>.jsonl. The same command resumes an interrupted benchmark.
Exit status 1 if anything differs.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.lives import (
    PATIENCE,
    ROOT,
    Life,
    Plan,
    begin,
    done,
    environment,
    make_start,
    metrics,
    start,
    steps_done,
)

LOST = 170
"""Exit status of a process whose peer died (`ernie_vilg_jax.sharding.watch`)."""
WITHIN = 60.0
"""Seconds within which it must have exited."""


def differences(folder: Path, unbroken: Path) -> list[str]:
    """The differences of a finished run from the unbroken one."""
    from benchmarks.damage.uses import checkpoint_digests

    last = max((unbroken / "checkpoints").iterdir(), key=lambda step: int(step.name))
    ours, theirs = (checkpoint_digests(one / "checkpoints" / last.name) for one in (folder, unbroken))
    found = [f"arrays of {name}" for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
    ours, theirs = (metrics(one)[0] for one in (folder, unbroken))
    return found + [f"losses of step {step}" for step in sorted({*ours, *theirs}) if ours.get(step) != theirs.get(step)]


def await_moment(life: Life, rng: Random, processes: int) -> str:
    """Waits for a random moment of a life, or for its end. Returns the kind of moment."""
    moment = rng.choices(("start", "training", "saving"), (2, 4, 5))[0]
    wait, saves, offset = rng.uniform(0, 12), rng.randint(1, 4), rng.choice((0.0, rng.uniform(0, 0.4)))
    was_saving = False
    while life.running():
        if moment == "start" and (processes == 1 or "experts on" in life.log()):
            break  # several must have connected: before that the other one waits for --startup_timeout
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


def one_life(plan: Plan, workdir: Path, number: int) -> dict[str, Any]:
    """Starts the command and kills it, or lets it finish. Returns a row for the file of kills."""
    processes, rng = plan.processes, Random(f"{plan.seed}/{plan.processes}/{number}")
    life = plan.start(workdir)
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


def kill_all(plan: Plan, unbroken: Path) -> list[dict[str, Any]]:
    """Runs and kills until there are enough kills and the last run is done. Returns a row for every life."""
    file = plan.work / f"kills_{plan.processes}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    while sum(row["killed"] for row in rows) < plan.kills or rows[-1]["killed"]:
        turn = sum("differences" in row for row in rows)
        workdir = plan.work / f"run_{plan.processes}_{turn}"
        begin(plan.work, workdir)
        if sum(row["killed"] for row in rows) >= plan.kills:
            life = plan.start(workdir)
            done(life, "the last run")
            row = {"number": len(rows), "workdir": workdir.name, "killed": False, "began": life.began()}
        else:
            row = one_life(plan, workdir, len(rows))
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
    """A summary of the kills, as Markdown."""
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
    """Seconds from SIGTERM to the exit with a saved checkpoint, for the full-size demo config, by phase."""
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
    parser.add_argument("--seed", type=int, default=0, help="decides the moments of the kills")
    parser.add_argument("--sigterm", action=argparse.BooleanOptionalAction, help="measure SIGTERM (with one process)")
    parser.add_argument("--steps", type=int, default=60, help="steps of a run; another number needs another --work")
    arguments = parser.parse_args()
    plan = Plan(arguments.work.absolute(), arguments.kills, arguments.steps, arguments.processes, arguments.seed)
    plan.work.mkdir(parents=True, exist_ok=True)
    os.environ["JAX_PLATFORMS"] = "cpu"  # of this process, which reads checkpoints to compare them
    rows: list[dict[str, Any]] = []
    if plan.kills:
        rows = kill_all(plan, make_start(plan))
        print(summary(rows, plan.processes), flush=True)
    if arguments.sigterm if arguments.sigterm is not None else plan.processes == 1:
        print(sigterm(plan.work))
    sys.exit(int(any(row.get("fault") or row.get("differences") for row in rows)))


if __name__ == "__main__":
    main()
