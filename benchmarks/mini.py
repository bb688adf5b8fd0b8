"""The paper's whole run with every size divided: do its parts fit together?

    python -m benchmarks.mini --work=/tmp/mini                   # one process with eight fake devices
    python -m benchmarks.mini --work=/tmp/mini --processes=2     # two, of four each
    python -m benchmarks.mini --work=/tmp/mini --processes=2,1   # two for the autoencoder, then one: CI does this
    python -m benchmarks.mini --work=/tmp/mini --shapes          # from a bucket, in three shapes, killed once

prepare -> annotate -> autoencoder -> base -> experts 0 and 1, meanwhile 2 and 3 in another job -> merge -> sample,
by the documented commands, on `configs/paper.py:…,mini`: with knowledge, remat, accumulation, groups of experts and cut
parameters. `--shapes` is the way of large data instead (benchmarks/mini_shapes.py). Prints the seconds of each and ends
with status 0, or prints the log of the command that failed.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks import quick
from ernie_vilg_jax import checkpointing

ROOT = Path(__file__).parents[1]
DEVICES = 8
CONFIG = "configs/paper.py"
JOBS = {"one": (0, 1), "two": (2, 3)}


def command(
    work: Path, name: str, module: str, *arguments: str, processes: int = 1, kill: Callable[[], bool] | None = None
) -> None:
    """Runs `python -m ernie_vilg_jax.<module>`, in all processes at once. Exits with the log of one that fails.

    Prints how long they took, and calls their logs after `name`. With `kill` they are killed as soon as it is true, and
    must not have ended before.
    """
    started = time.monotonic()
    line = [sys.executable, "-m", f"ernie_vilg_jax.{module}", *arguments]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(work / "xla")}
    env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES // processes} {quick.XLA_FLAGS}"
    if processes > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        line += [f"--coordinator=127.0.0.1:{port}", f"--num_processes={processes}"]
    logs = [work / f"{name}, process {number}.log" for number in range(processes)]
    running = []
    for number, log in enumerate(logs):
        more = [f"--process_id={number}"] if processes > 1 else []
        with log.open("w") as file:
            running.append(subprocess.Popen([*line, *more], cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT))
    killed = False
    while kill is not None and not killed and all(process.poll() is None for process in running):
        if killed := kill():
            for process in running:
                process.kill()
        time.sleep(0.02)
    statuses = [process.wait() for process in running]
    if not killed and (any(statuses) or kill is not None):
        raise SystemExit(f"{' '.join(line)}\nended with {statuses}:\n" + "\n".join(log.read_text() for log in logs))
    print(f"{name:20s} {time.monotonic() - started:6.1f} s", flush=True)


def whole_way(work: Path, processes: tuple[int, int]) -> None:
    """`processes` of the autoencoder's training, and of the others."""
    run, call = work / "run_{}_{}".format(*processes), partial(command, work)
    shutil.rmtree(run, ignore_errors=True)

    def train(name: str, phase: str, workdir: Path, *more: str) -> None:
        settings = [f"--config={CONFIG}:{phase},mini", f"--config.data.path={run / 'annotated'}"]
        count = processes[0] if phase == "autoencoder" else processes[1]
        call(name, "train", *settings, f"--workdir={workdir}", *more, processes=count)

    def job(name: str, experts: tuple[int, ...]) -> None:
        train(f"experts {name}", "experts", run / name, f"--config.experts.train={experts}")

    call("prepare", "prepare", f"--config={CONFIG}:base,mini", f"--output={run / 'data'}")
    call("annotate", "annotate", f"--input={run / 'data'}", f"--output={run / 'annotated'}")
    train("autoencoder", "autoencoder", run / "one")
    train("base", "base", run / "one")
    shutil.copytree(run / "one" / "base", run / "two" / "base")
    with ThreadPoolExecutor() as pool:  # each compiles for most of its time, on one core
        list(pool.map(job, JOBS, JOBS.values()))
    call("merge", "checkpoint", "merge", *(str(run / name) for name in JOBS), str(run / "merged"))
    call("sample", "sample", f"--checkpoint={run / 'merged'}", f"--output={run / 'samples'}", "--prompt=红色的圆形")
    merged = checkpointing.item_names(checkpointing.find(run / "merged"))
    assert [name for name in merged if name.startswith("expert_")] == [f"expert_0{k}" for k in range(4)], merged
    assert (run / "samples" / "000.png").is_file()


def main() -> None:
    parser = argparse.ArgumentParser(
        "benchmarks.mini", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", required=True, type=Path, help="folder for everything, 50 MB")
    parser.add_argument(
        "--processes", default="1", choices=("1", "2", "2,1"), help="processes of a training run (of the later ones)"
    )
    parser.add_argument("--shapes", action="store_true", help="the way of large data, in one process")
    arguments = parser.parse_args()
    if arguments.shapes and arguments.processes != "1":
        parser.error(f"--processes={arguments.processes}: --shapes runs in one process")
    work, started = arguments.work.absolute(), time.monotonic()
    work.mkdir(parents=True, exist_ok=True)
    if arguments.shapes:
        from benchmarks.mini_shapes import whole_way_of_large_data

        whole_way_of_large_data(work)
    else:
        count = [int(count) for count in arguments.processes.split(",")]
        whole_way(work, (count[0], count[-1]))
    seconds = time.monotonic() - started
    print(f"the whole way, processes {arguments.processes}, {DEVICES} devices: {seconds:.0f} s")


if __name__ == "__main__":
    main()
