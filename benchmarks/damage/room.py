"""One case in its own room: copy, damage, run, and the verdict on the outcome."""

import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.damage.kinds import Damage, Part, Place, Unfit, Use

ROOT = Path(__file__).parents[2]
LONGEST = 400
"""Characters of a sentence that users still read; paths in it count as ten each."""
MOST_LINES = 40
"""Lines of log before the sentence, so that it stays on the screen."""
UNFIT, BROKEN = 98, 99
"""Exit statuses of a case that does not apply, and of one in which this benchmark itself failed."""


@dataclass(frozen=True)
class Room:
    """Folders of one case: copy/ (damaged), out/ (the command's output), tmp/, and outside/ (must not change)."""

    path: Path

    @property
    def copy(self) -> Path:
        return self.path / "copy"

    @property
    def out(self) -> Path:
        return self.path / "out"

    @property
    def outside(self) -> Path:
        return self.path / "outside"

    @property
    def temporary(self) -> Path:
        return self.path / "tmp" / "inner"

    def read(self, name: str) -> Any:
        """A JSON file of the room; None if it is missing."""
        file = self.path / name
        return json.loads(file.read_text()) if file.is_file() else None

    def write(self, name: str, value: Any) -> None:
        (self.path / name).write_text(json.dumps(value))  # file names need not be UTF-8

    def log(self, name: str) -> str:
        file = self.out / name
        return file.read_text(errors="replace") if file.is_file() else ""


def furnish(room: Room, world: Path, needs: tuple[str, ...]) -> None:
    """An empty room with a fresh copy of what a use needs."""
    shutil.rmtree(room.path, ignore_errors=True)
    for folder in (room.copy, room.out, room.outside, room.temporary):
        folder.mkdir(parents=True)
    (room.outside / "keep.txt").write_text("Nobody may change or delete this.")
    for name in needs:
        shutil.copytree(world / name, room.copy / name)


def play(room: Room, world: Path, use: Use, part: Part | None, damage: Damage | None, rng: Random, real: bool) -> int:
    """Damages and runs; writes damage.json (what was done), before.json (files before) and result.json (digests).

    Needs its own process (see `forks.py`), because it changes sys.argv, the standard streams and much else.
    With `real` the command gets a fresh interpreter, otherwise it runs here.

    Returns the command's exit status, UNFIT or BROKEN.
    """
    furnish(room, world, use.needs)
    speak_into(room.path / "benchmark.log")
    try:
        if part is not None and damage is not None:
            place = Place(room.copy, room.copy / part.path, world / "other", room.outside)
            room.write("damage.json", damage.apply(place, rng))
        room.write("before.json", {"copy": snapshot(room.copy), "room": snapshot(room.path, ("copy", "out"))})
        status = run(use.line(room.copy, room.out), room, real)
        speak_into(room.path / "benchmark.log")
        if status == 0:
            room.write("result.json", result(use, room))
    except Unfit:
        return UNFIT
    except Exception:
        (room.path / "broken.txt").write_text(traceback.format_exc())
        return BROKEN
    return status


def speak_into(*files: Path) -> None:
    """Appends standard output and error of this process to one file, or to one file each."""
    for number, file in enumerate((files[0], files[-1]), 1):
        with file.open("a") as stream:
            os.dup2(stream.fileno(), number)


def result(use: Use, room: Room) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(use.result(room.copy, room.out)))
    except Exception as error:  # of any type: users could not read the result either
        return {"unreadable": f"{type(error).__name__}: {str(error)[:200]}"}


def run(line: list[str], room: Room, real: bool) -> int:
    """Runs `python -m` with a line; its output goes to out/stdout and out/stderr."""
    environment = {"TMPDIR": str(room.temporary), "XDG_CACHE_HOME": str(room.path.parent / "cache")}
    if real:
        with (room.out / "stdout").open("w") as stdout, (room.out / "stderr").open("w") as stderr:
            command, env = [sys.executable, "-m", *line], {**os.environ, **environment}
            return subprocess.run(
                command, cwd=ROOT, env=env, check=False, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            ).returncode
    os.environ.update(environment)
    tempfile.tempdir = None  # read again from TMPDIR
    os.chdir(ROOT)
    sys.argv = line[:]
    speak_into(room.out / "stdout", room.out / "stderr")
    try:
        runpy.run_module(line[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def snapshot(folder: Path, leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """A digest of every file below a folder; "not a file" for anything else."""
    found = {}
    for where, folders, files in os.walk(folder):
        if Path(where) == folder:
            folders[:] = [name for name in folders if name not in leave_out]
        for name in files:
            file = Path(where, name)
            whole = file.is_file() and os.access(file, os.R_OK)
            key = str(file.relative_to(folder))
            found[key] = hashlib.sha256(file.read_bytes()).hexdigest()[:16] if whole else "not a file"
    return found


def verdict(room: Room, use: Use, status: int, hung: bool, expected: Mapping[str, Any] | None) -> tuple[str, str]:
    """The outcome, one of `kinds.OUTCOMES`, and the reason if it is not a good one."""
    if hung:
        return "hang", "no end within the limit"
    before = room.read("before.json")
    own = ("damage.json", "before.json", "result.json", "benchmark.log")
    if changed := changes(before["room"], snapshot(room.path, ("copy", "out")), own):
        return "partial", f"outside of the folders it was given: {changed}"
    if status == 0:
        found = room.read("result.json")
        different = sorted(
            name for name in {*found, *(expected or {})} if found.get(name) != (expected or {}).get(name)
        )
        if different:
            return "silent", f"other: {', '.join(different)}" + (
                f" ({found['unreadable']})" if "unreadable" in found else ""
            )
        return "correct", ""
    if why := no_sentence(status, room.log("stderr"), str(room.path)):
        return "traceback", why
    after = snapshot(room.copy)
    # New files (logs, a lock) are harmless. Existing files must still be there.
    kept = {name: value for name, value in after.items() if name in before["copy"]}
    if changed := changes(before["copy"], kept, use.writes):
        return "partial", f"refused, but changed {changed}"
    return "refused", ""


def no_sentence(status: int, stderr: str, room: str = "\0") -> str:
    """Why a failed command's output is not one clear sentence; "" if it is."""
    if "Traceback (most recent call last)" in stderr:
        return f"traceback: {stderr.strip().splitlines()[-1][:200]}"
    if status != 1:
        return f"exit status {status}: {stderr[-200:]!r}"
    lines = [line for line in stderr.splitlines() if line.strip()]
    sentences = [line for line in lines if line.startswith("error: ")]
    if not lines or sentences != lines[-1:]:
        return f"{len(sentences)} sentences, the last line is {(lines or [''])[-1][:200]!r}"
    if len(lines) > MOST_LINES:
        return f"{len(lines)} lines of log before the sentence"
    # A user's own paths are short.
    length = len(re.sub(rf"{re.escape(room)}[^\s,;:)]*", "/the/path/", lines[-1]))
    return f"a sentence of {length} characters" if length > LONGEST else ""


def changes(before: Mapping[str, str], after: Mapping[str, str], allowed: tuple[str, ...]) -> str:
    """Up to four files that are new, gone or different."""
    different = sorted(
        name
        for name in {*before, *after}
        if before.get(name) != after.get(name) and not any(name == a or name.startswith(f"{a}/") for a in allowed)
    )
    return ", ".join(different[:4])
