"""The files to damage: small, real, and made once. other/ has the same, made with another seed."""

import json
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.damage import forks
from benchmarks.damage.kinds import Use
from benchmarks.damage.room import ROOT, Room, play, run
from benchmarks.damage.uses import config_of, digest

PHASES = ("autoencoder", "base", "experts")
Jobs = list[tuple[str, Callable[[], int]]]


def source_digest() -> str:
    """A digest of everything that decides the world's content; another version of the library gives another."""
    files = sorted([*(ROOT / "ernie_vilg_jax").rglob("*.py"), *(ROOT / "benchmarks" / "damage").glob("*.py")])
    return digest("".join(digest(file.read_bytes()) for file in [*files, ROOT / "configs" / "demo.py"]))


def make_world(work: Path, workers: int) -> Path:
    """`work/world`, made if it is missing or from another version of the library; `made` is written last."""
    world, key = work / "world", source_digest()
    made = world / "made"
    if made.is_file() and made.read_text() == key:
        return world
    shutil.rmtree(world, ignore_errors=True)
    (world / "other").mkdir(parents=True)
    command = partial(in_room, work)
    both = (world, world / "other")
    finish([("prepare", command("ernie_vilg_jax.prepare", config_of("base"), f"--output={world / 'data'}"))], workers)
    finish([("other data", lambda: prepare_other(world / "other" / "data"))], workers)
    annotate = [["ernie_vilg_jax.annotate", f"--input={one / 'data'}", f"--output={one / 'annotated'}"] for one in both]
    finish([(line[-1], command(*line)) for line in annotate], workers)
    for seed, folder in enumerate(both):
        for phase in PHASES:  # one after the other, so that the second run reuses the first one's compiled programs
            line = [config_of(phase), f"--config.data.path={world / 'data'}", f"--workdir={folder / 'run'}"]
            finish([(phase, command("ernie_vilg_jax.train", *line, f"--config.seed={seed}"))], workers)
    export = [["ernie_vilg_jax.checkpoint", "export", str(one / "run"), str(one / "exported")] for one in both]
    finish([(line[-1], command(*line)) for line in export], workers)
    made.write_text(key)
    return world


def expected_results(work: Path, world: Path, uses: Iterable[Use], workers: int) -> dict[str, Any]:
    """The result of each use on undamaged files, by its name; kept in `expected.json`."""
    file = world / "expected.json"
    known = json.loads(file.read_text()) if file.is_file() else {}
    missing = {use.name: use for use in uses if use.name not in known}
    rooms = {name: Room(work / "rooms" / f"undamaged-{digest(name)}") for name in missing}
    jobs = [
        (name, partial(play, rooms[name], world, use, None, None, Random(0), False)) for name, use in missing.items()
    ]
    finish(jobs, workers, rooms)
    for name, room in rooms.items():
        known[name] = room.read("result.json")
        if "unreadable" in known[name]:
            raise SystemExit(f"{name} gives no result that can be compared: {known[name]['unreadable']}")
        shutil.rmtree(room.path)
    file.write_text(json.dumps(known, ensure_ascii=False, indent=1))
    return known


def in_room(work: Path, *line: str) -> Callable[[], int]:
    """A command as a job."""
    room = Room(work / "rooms" / f"world-{digest(' '.join(line))}")

    def job() -> int:
        for folder in (room.out, room.temporary):
            folder.mkdir(parents=True, exist_ok=True)
        return run(list(line), room, real=False)

    return job


def prepare_other(output: Path) -> int:
    from configs.demo import get_config
    from ernie_vilg_jax.preparation.prepare import prepare

    config = get_config("base,smoke")
    with config.unlocked():
        config.data.sources[0].seed = 1
    prepare(config, output)
    return 0


def finish(jobs: Jobs, workers: int, rooms: dict[str, Room] | None = None) -> None:
    """Runs jobs that make the world, none of which may fail."""
    for name, ended in forks.all_of(jobs, workers, limit=600):
        if ended.status:
            told = rooms[name].log("stderr") if rooms else ""
            raise SystemExit(f"making the undamaged files failed at {name} with status {ended.status}\n{told}")
