"""Runs the inputs, each in a room of its own, and says how it ended."""

import traceback
from collections.abc import Sequence
from random import Random

from benchmarks.damage.inputs import (
    archives,
    flags,
    folders,
    parquet,
    pictures,
    tables,
    vocabularies,
    web,
    wrong_tables,
)
from benchmarks.damage.inputs.kinds import Input
from benchmarks.damage.room import BROKEN, Room, changes, furnish, no_sentence, run, snapshot, speak_into

INPUTS: Sequence[Input] = (
    *(*tables.INPUTS, *wrong_tables.INPUTS, *pictures.INPUTS, *archives.INPUTS, *parquet.INPUTS, *folders.INPUTS),
    *(*vocabularies.INPUTS, *flags.INPUTS, *web.INPUTS),
)
FAMILIES = tuple(dict.fromkeys(one.family for one in INPUTS))
OUTCOMES = ("needless", "unclear")
"""More faults than `kinds.OUTCOMES` has. needless: valid input was refused. unclear: the sentence does not name what is
wrong."""
LIBRARIES = (
    "ernie_vilg_jax.preparation.sources.tars",
    "ernie_vilg_jax.preparation.sources.parquet",
    "pyarrow.parquet",
    "tokenizers",
    "ernie_vilg_jax.webapp.page",
)
"""Imported once, before the forks."""


def play(room: Room, given: Input, rng: Random) -> int:
    """Writes the files, runs the command, checks its output; needs its own process, as `room.play` does."""
    furnish(room, room.path, ())
    speak_into(room.path / "benchmark.log")
    try:
        trial = given.make(room.copy, room.out, rng)
        room.write("trial.json", {"refuse": trial.check is None, "says": list(trial.says), "line": trial.line})
        room.write("before.json", {"room": snapshot(room.path, ("out",))})
        status = run(trial.line, room, False)
        speak_into(room.path / "benchmark.log")
        if status == 0:
            room.write("result.json", trial.check(room.out) if trial.check else "it was accepted")
    except Exception:
        (room.path / "broken.txt").write_text(traceback.format_exc())
        return BROKEN
    return status


def verdict(room: Room, status: int, hung: bool) -> tuple[str, str]:
    """The outcome and the reason if it is not a good one."""
    if hung:
        return "hang", "no end within the limit"
    trial = room.read("trial.json")
    own = ("trial.json", "before.json", "result.json", "benchmark.log", "tmp/inner/gradio")
    if changed := changes(room.read("before.json")["room"], snapshot(room.path, ("out",)), own):
        return "partial", f"outside of the folders it was given: {changed}"
    stderr = room.log("stderr")
    if status == 0:
        if "Traceback (most recent call last)" in stderr:
            return "traceback", "in the log of a command that succeeded"
        return ("silent", why) if (why := room.read("result.json")) else ("correct", "")
    if why := no_sentence(status, stderr, str(room.path)):
        return "traceback", why
    sentence = stderr.strip().splitlines()[-1]
    if not trial["refuse"]:
        return "needless", sentence[:300]
    if lacking := [word for word in trial["says"] if word not in sentence]:
        return "unclear", f"the sentence lacks {', '.join(map(repr, lacking))}: {sentence[:300]}"
    return "refused", ""


def command(room: Room) -> str:
    """The command of a room, for the report."""
    return room.read("trial.json")["line"][0].rpartition(".")[2]
