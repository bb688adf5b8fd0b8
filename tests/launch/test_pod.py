"""How `pod.sh` and `tpu_vm.sh` wait, watch and restart, with fake programs in place of the cloud's."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.launch.scripts import PLACE, RUN, SLICE, launch

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
  gcloud*'tar -xzf'*) echo unpack >> events ;;
  gcloud*'tail -n '*) echo log >> events ;;
  gcloud*' create '*) echo create >> events; next creations; exit ;;
  gcloud*) echo "$4" >> events ;;
  sleep*) echo "sleep $1" >> events ;;
  git*) echo archive >> events ;;
esac
"""

SET_UP = "scp unpack install start"


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


@pytest.mark.parametrize("state", ["READY", "PREEMPTED", "NONE"])
def test_tpu_vm_is_used_replaced_or_created(cloud: Cloud, state: str):
    (cloud.folder / "states").write_text(f"{state}\n")
    (cloud.folder / "creations").touch()
    (cloud.folder / "installs").touch()
    done = launch("tpu_vm", *PLACE, *RUN, PATH=f"{cloud.folder / 'bin'}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    first = {"READY": "", "PREEMPTED": "delete create ", "NONE": "create "}[state]
    assert cloud.events == f"{first}archive scp unpack install ssh start"
