"""Damage to JSON: edited numbers and names, deleted and renamed keys, values of the wrong type."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.damage.files import files_of, name
from benchmarks.damage.kinds import Damage, Place, Unfit

MAIN = ("_CHECKPOINT_METADATA", "manifest.json", "tokenizer.json")
"""The most important documents; drawn as often as all others together."""

Step = str | int


def read(file: Path) -> Any:
    """The JSON object in a file; None if it holds something else."""
    try:
        value = json.loads(file.read_bytes())
    except ValueError:  # UnicodeDecodeError is one
        return None
    return value if isinstance(value, dict) and value else None


def paths(value: Any, before: tuple[Step, ...] = ()) -> Iterator[tuple[Step, ...]]:
    """The path to every value in a document."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in entries:
        yield (*before, key)
        yield from paths(item, (*before, key))


def at(value: Any, way: tuple[Step, ...]) -> Any:
    for key in way:
        value = value[key]
    return value


def edit(
    place: Place, rng: Random, fits: Callable[[Any], bool], change: Callable[[Any, Step, Random, Place], str]
) -> str:
    """Applies `change(container, key, rng, place)` at a random value that fits, in a random document of the part."""
    found = {file: value for file in files_of(place.part) if (value := read(file)) is not None}
    main = [file for file in found if file.name in MAIN]
    order = rng.sample(main, len(main)) + rng.sample(list(found), len(found))
    if rng.random() < 0.5:
        order.reverse()
    for file in order:
        document = found[file]
        ways = [way for way in paths(document) if fits(at(document, way))]
        if not ways:
            continue
        # First the branch, then the value, so that a single value is drawn as often as one of a hundred in a list.
        branch = rng.choice(sorted({str(way[0]) for way in ways}))
        way = rng.choice([way for way in ways if str(way[0]) == branch])
        what = change(at(document, way[:-1]), way[-1], rng, place)
        file.write_text(json.dumps(document, indent=1 if file.name == "manifest.json" else None, ensure_ascii=False))
        return f"{'.'.join(map(str, way))} of {name(place, file)}: {what}"
    raise Unfit


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def change_number(container: Any, key: Step, rng: Random, place: Place) -> str:
    before = container[key]
    after = rng.choice(
        (before + 1, before * 2 + 1, 0 if before else 1, -1 if before != -1 else 2, 10**12, before + 0.5)
    )
    container[key] = after
    return f"{before!r} became {after!r}"


def change_text(container: Any, key: Step, rng: Random, place: Place) -> str:
    before: str = container[key]
    after = rng.choice(("", before + "x", "none", before[:-1] or "x", "猫", "x" * 5000))
    container[key] = after
    return f"{before[:60]!r} became {after[:60]!r}"


def hostile_text(container: Any, key: Step, rng: Random, place: Place) -> str:
    before: str = container[key]
    climbing = "/".join([".."] * rng.choice((1, 2, 3)))
    after = rng.choice((str(place.outside / "keep.txt"), f"{climbing}/outside/keep.txt", "../x", "/", "a\0b", "a\\b"))
    container[key] = after
    return f"{before[:60]!r} became {after!r}"


def wrong_type(container: Any, key: Step, rng: Random, place: Place) -> str:
    before: Any = container[key]
    choices = (None, [], {}, "text", 7, -0.5, True, [before], {"x": before}, float("nan"))
    after = rng.choice([value for value in choices if type(value) is not type(before)])
    container[key] = after
    return f"{str(before)[:60]!r} became {str(after)[:60]}"


def delete_key(container: Any, key: Step, rng: Random, place: Place) -> str:
    del container[key]
    return "deleted"


def rename_key(container: Any, key: Step, rng: Random, place: Place) -> str:
    if isinstance(key, int):
        container.append(container[key])
        return "added once more"
    after = rng.choice((f"{key}_", str(key).upper(), "", "x"))
    container[after] = container.pop(key)
    return f"is now called {after!r}"


def kind(title: str, fits: Callable[[Any], bool], change: Callable[[Any, Step, Random, Place], str]) -> Damage:
    return Damage(title, lambda place, rng: edit(place, rng, fits, change))


DOCUMENTS = (
    kind("JSON: another number", is_number, change_number),
    kind("JSON: another text", lambda value: isinstance(value, str), change_text),
    kind("JSON: a hostile path", lambda value: isinstance(value, str), hostile_text),
    kind("JSON: wrong type", lambda value: True, wrong_type),
    kind("JSON: key deleted", lambda value: True, delete_key),
    kind("JSON: key renamed", lambda value: True, rename_key),
)
