"""The damage benchmark: its damage is seeded and real, its verdicts are correct, and some cases of both groups pass."""

import json
import re
import shutil
import subprocess
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from benchmarks.damage import world
from benchmarks.damage.cases import PARTS, cases
from benchmarks.damage.inputs import run as inputs
from benchmarks.damage.kinds import Damage, Part, Place
from benchmarks.damage.room import Room, furnish, no_sentence, snapshot, verdict
from benchmarks.damage.uses import Prepare, Read
from ernie_vilg_jax import pipeline
from ernie_vilg_jax.annotation.annotate import annotate
from tests.commands import python_m

ROOT = Path(__file__).parents[2]
WHEN = {"tables": (), "web": pytest.mark.documents}
"""Family of inputs -> the mark of its test; that of others is `hosts`."""
OF_DATA = [part for part in PARTS if part.path.startswith("data")]


@pytest.fixture(scope="session")
def small_world(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data, and other data beside it."""
    path = tmp_path_factory.mktemp("world")
    shutil.copytree(data, path / "data")
    world.prepare_other(path / "other" / "data")
    return path


@pytest.mark.parametrize(
    ("part", "damage"),
    [pytest.param(part, damage, id=f"{part.path}: {damage.name}") for part in OF_DATA for damage in part.damages],
)
def test_damage_is_done_and_repeats(part: Part, damage: Damage, small_world: Path, tmp_path: Path) -> None:
    told, after = [], []
    for name in ("first", "again"):
        room = Room(tmp_path / name)
        furnish(room, small_world, ("data",))
        before = snapshot(room.copy)
        place = Place(room.copy, room.copy / part.path, small_world / "other", room.outside)
        told.append(damage.apply(place, Random("0/7")).replace(str(room.path), ""))
        after.append(snapshot(room.copy))
        assert after[-1] != before or any(path.is_dir() for path in room.copy.rglob("*.json")), told
    assert told[0] == told[1] and len(told[0]) < 300
    if "hostile" not in damage.name:  # those hold the path of the room
        assert after[0] == after[1]


def test_a_number_is_always_the_same_case() -> None:
    """--case=N must not depend on the number of cases, or on their family."""
    some, more = list(islice(cases(3), 50)), list(islice(cases(3), 400))
    assert some == more[:50] and [case.number for case in more] == list(range(400))
    assert {(case.part.path, case.damage.name) for case in more} == {(p.path, d.name) for p in PARTS for d in p.damages}
    assert list(islice(cases(4), 50)) != some


@pytest.mark.parametrize(
    ("status", "stderr", "why"),
    [
        (1, "12:00:00 a line of the log\nerror: shard x is missing: run prepare again\n", ""),
        (1, "", "0 sentences"),
        (1, "error: first\nerror: second\n", "2 sentences"),
        (1, "error: too soon\nmore\n", "1 sentences, the last line is 'more'"),
        (1, "Traceback (most recent call last):\n  File\nKeyError: 'x'\n", "traceback: KeyError: 'x'"),
        (1, "a line\n" * 100 + "error: who reads this\n", "101 lines"),
        (1, f"error: {'long ' * 100}\n", "a sentence of 507 characters"),
        (1, f"error: {'/room/very/long' * 60} is missing\n", ""),
        (-11, "", "exit status -11"),
        (2, "error: a sentence\n", "exit status 2"),
    ],
)
def test_what_counts_as_one_sentence(status: int, stderr: str, why: str) -> None:
    told = no_sentence(status, stderr, "/room")
    assert told.startswith(why) if why else not told


@pytest.mark.parametrize(
    ("change", "status", "expected", "why"),
    [
        ("", 0, "correct", ""),
        ("result", 0, "silent", "other: train"),
        ("", 1, "refused", ""),
        ("copy/data/new.txt", 1, "refused", ""),
        ("copy/data/manifest.json", 1, "partial", "refused, but changed data/manifest.json"),
        ("outside/keep.txt", 0, "partial", "outside of the folders it was given: outside/keep.txt"),
        ("outside/x", 1, "partial", "outside of the folders it was given: outside/x"),
        ("tmp/y", 1, "partial", "outside of the folders it was given: tmp/y"),
    ],
)
def test_verdict(change: str, status: int, expected: str, why: str, small_world: Path, tmp_path: Path) -> None:
    room = Room(tmp_path / "room")
    furnish(room, small_world, ("data",))
    room.write("before.json", {"copy": snapshot(room.copy), "room": snapshot(room.path, ("copy", "out"))})
    (room.out / "stderr").write_text("error: it is damaged: get another\n" if status else "")
    room.write("result.json", {"train": "other" if change == "result" else "same"})
    if "/" in change:
        (room.path / change).write_text("written by the command")
    use = Read("data")
    assert verdict(room, use, status, False, {"train": "same"}) == (expected, why)
    assert verdict(room, use, status, True, {"train": "same"})[0] == "hang"
    if change == "copy/data/manifest.json":  # the command that made the data may make it again
        assert verdict(room, Prepare(), status, False, {})[0] == "refused"


@pytest.mark.slow
@pytest.mark.hosts
def test_twenty_cases_end_well(small_world: Path, whole_run: Path, tmp_path: Path) -> None:
    """Correct or refused, all of them; in forks of a separate process, because this one has used its devices."""
    home = tmp_path / "world"
    shutil.copytree(small_world, home)
    shutil.copytree(whole_run, home / "run")
    shutil.copytree(whole_run, home / "other" / "run")
    for phase in ("autoencoder", "base", "experts"):  # the step before stands for another run
        steps = home / "other" / "run" / phase / "checkpoints"
        shutil.rmtree(steps / "8")
        shutil.copytree(steps / "4", steps / "8")
    pipeline.export(whole_run, home / "exported")
    pipeline.export(whole_run / "experts" / "checkpoints" / "4", home / "other" / "exported")
    for folder in (home, home / "other"):
        annotate(str(folder / "data"), str(folder / "annotated"))
    (home / "made").write_text(world.source_digest())
    report = tmp_path / "report.md"
    quick = "read,sample,checkpoint,annotate,inspect_data,prepare"
    line = [f"--work={tmp_path}", "--cases=20", "--seed=1", "--real=1", f"--commands={quick}", f"--report={report}"]
    done = subprocess.run(
        [*python_m(), "benchmarks.damage", *line], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(r"20 cases of seed 1: \d+ correct, \d+ refused, 0 silent, 0 traceback, 0 hang", report.read_text())
    assert json.loads((home / "expected.json").read_text())


@pytest.mark.parametrize("family", inputs.FAMILIES)
def test_inputs_are_written_and_repeat(family: str, tmp_path: Path) -> None:
    given = [one for one in inputs.INPUTS if one.family == family]
    assert len({one.name for one in given}) == len(given) >= 30
    refused = 0
    for number, one in enumerate(given):
        after = []
        for name in ("first", "again"):
            room = Room(tmp_path / name / str(number))
            furnish(room, tmp_path, ())
            trial = one.make(room.copy, room.out, Random("0/7"))
            after.append(snapshot(room.copy))
            refused += trial.check is None
        assert after[0] == after[1] or family == "parquet", one.name
    assert 0 < refused < 2 * len(given), "each family has valid and invalid ones"


@pytest.mark.parametrize(
    ("status", "stderr", "refuse", "result", "expected"),
    [
        (0, "", False, "", "correct"),
        (0, "", False, "another caption", "silent"),
        (0, "", True, "it was accepted", "silent"),
        (0, "Traceback (most recent call last):", False, "", "traceback"),
        (1, "error: a.txt, line 3: it is wrong", True, None, "refused"),
        (1, "error: a.txt: it is wrong", True, None, "unclear"),
        (1, "error: a.txt, line 3: it is wrong", False, None, "needless"),
        (1, "Traceback (most recent call last):\nKeyError: 1", True, None, "traceback"),
    ],
)
def test_verdict_on_inputs(
    status: int, stderr: str, refuse: bool, result: str | None, expected: str, tmp_path: Path
) -> None:
    room = Room(tmp_path / "room")
    furnish(room, tmp_path, ())
    room.write("trial.json", {"refuse": refuse, "says": ["a.txt", "line "], "line": ["prepare"]})
    room.write("before.json", {"room": snapshot(room.path, ("out",))})
    (room.out / "stderr").write_text(stderr)
    if result is not None:
        room.write("result.json", result)
    assert inputs.verdict(room, status, False)[0] == expected
    (room.copy / "new").write_text("x")
    assert inputs.verdict(room, status, False)[0] == "partial"


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", [pytest.param(family, marks=WHEN.get(family, pytest.mark.hosts)) for family in inputs.FAMILIES]
)
def test_some_inputs_of_each_family_end_well(family: str, tmp_path: Path) -> None:
    line = ["--group=inputs", f"--work={tmp_path}", f"--only={family}", "--cases=4", "--seed=1"]
    done = subprocess.run(
        [*python_m(), "benchmarks.damage", *line], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout.startswith("4 cases of seed 1: "), done.stdout + done.stderr
