"""What is damaged: small, real, and made once. The same of another seed lies in other/."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.damage import forks
from benchmarks.damage.cases import all_uses
from benchmarks.damage.room import ROOT, Room, play, run
from benchmarks.damage.uses import config_of, digest

PHASES = ("autoencoder", "base", "experts")
Jobs = list[tuple[str, Callable[[], int]]]


def source_digest() -> str:
    """Of all that decides what the world holds: another version of the library makes another."""
    files = sorted([*(ROOT / "ernie_vilg_jax").rglob("*.py"), *(ROOT / "benchmarks" / "damage").glob("*.py")])
    return digest("".join(digest(file.read_bytes()) for file in [*files, ROOT / "configs" / "demo.py"]))


def make_world(work: Path, workers: int) -> Path:
    """`work/world`, made if it is missing or of another version of the library; `expected.json` is written last."""
    world, key = work / "world", source_digest()
    expected = world / "expected.json"
    if expected.is_file() and json.loads(expected.read_text())["key"] == key:
        return world
    shutil.rmtree(world, ignore_errors=True)
    (world / "other").mkdir(parents=True)
    command = partial(in_room, work)
    finish([("prepare", command("ernie_vilg_jax.prepare", config_of("base"), f"--output={world / 'data'}"))], workers)
    finish([("other data", lambda: prepare_other(world / "other" / "data"))], workers)
    annotate = {folder: f"--input={folder}/data --output={folder}/annotated" for folder in (world, world / "other")}
    finish([(str(f), command("ernie_vilg_jax.annotate", *line.split())) for f, line in annotate.items()], workers)
    for seed, folder in enumerate((world, world / "other")):
        for phase in PHASES:  # one after the other: the second run finds the programs of the first compiled
            line = [config_of(phase), f"--config.data.path={world / 'data'}", f"--workdir={folder / 'run'}"]
            finish([(phase, command("ernie_vilg_jax.train", *line, f"--config.seed={seed}"))], workers)
    finish(
        [
            (str(folder), command("ernie_vilg_jax.checkpoint", "export", str(folder / "run"), str(folder / "exported")))
            for folder in (world, world / "other")
        ],
        workers,
    )
    write_expected(work, world, key, workers)
    return world


def write_expected(work: Path, world: Path, key: str, workers: int) -> None:
    """Runs every use on undamaged files and keeps what it gave."""
    rooms = {use.name: Room(work / "rooms" / f"undamaged-{number}") for number, use in enumerate(all_uses())}
    jobs: Jobs = [
        (use.name, partial(play, rooms[use.name], world, use, None, None, Random(0), False)) for use in all_uses()
    ]
    finish(jobs, workers, rooms)
    results = {name: room.read("result.json") for name, room in rooms.items()}
    for name, result in results.items():
        if "unreadable" in result:
            raise SystemExit(f"{name} gives no result that can be compared: {result['unreadable']}")
        shutil.rmtree(rooms[name].path)
    (world / "expected.json").write_text(json.dumps({"key": key, "results": results}, ensure_ascii=False, indent=1))


def expected_results(world: Path) -> dict[str, Any]:
    return json.loads((world / "expected.json").read_text())["results"]


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
    """Runs jobs of the world itself, none of which may fail."""
    for name, ended in forks.all_of(jobs, workers, limit=600):
        if ended.status:
            told = rooms[name].log("stderr") if rooms else ""
            raise SystemExit(f"making the undamaged files failed at {name} with status {ended.status}\n{told}")
