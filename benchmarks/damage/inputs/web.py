"""Requests to the web page's address, from any program."""

import json
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.damage.inputs.kinds import Input, Trial
from benchmarks.load_demo import GOOD, HOSTILE

FAMILY = "web"
PLAIN = ["一只猫", "", 4, False, 5, *GOOD[5:]]
FIELDS = ("prompt", "style", "number", "random seed", "seed", "negative prompt", "steps", "sampler", "guidance")
"""Names of the first values."""


def request(data: Any) -> bytes:
    return json.dumps({"data": data}).encode()


def asked(name: str, place: int, value: Any, images: int = 4) -> Input:
    """A valid request; the number of images, the seed and the prompt have to be those that were asked for."""

    def make(folder: Path, out: Path, rng: Random) -> Trial:
        data = [*PLAIN]
        data[4] = rng.randrange(2**32)
        data[place] = value
        (folder / "body").write_bytes(request(data))

        def check(out: Path) -> str:
            answer = json.loads((out / "stdout").read_text().splitlines()[-1])
            if answer["images"] != images:
                return f"{answer['images']} images instead of {images}"
            if data[3] is False and answer["seed"] != data[4]:
                return f"seed {answer['seed']} instead of {data[4]}"
            return "" if "<script" not in answer["note"] else "the prompt is markup of the page"

        return Trial(["benchmarks.damage.inputs.serve", "call/generate", str(folder / "body")], check)

    return Input(FAMILY, name, make)


def refused(name: str, path: str, body: bytes) -> Input:
    def make(folder: Path, out: Path, rng: Random) -> Trial:
        (folder / "body").write_bytes(body)
        return Trial(["benchmarks.damage.inputs.serve", path, str(folder / "body")])

    return Input(FAMILY, name, make)


def changed(place: int, value: Any) -> bytes:
    data = [*PLAIN]
    data[place] = value
    return request(data)


FILE = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
INPUTS = (
    asked("plain", 2, 4),
    asked("eight images, as a float", 2, 8.0, images=8),
    asked("nulls for defaults", 1, None),
    asked("markup as a prompt", 0, "<script>alert(1)</script>"),
    asked("line ends and controls", 0, "a\u2028cat\0\x1b\n"),
    asked("2,000 hanzi", 0, "猫" * 2000),
    asked("a style", 1, "flat style"),
    asked("a random seed", 3, True),
    *(refused(f"{name}: a list", "call/generate", changed(place, ["x"])) for place, name in enumerate(FIELDS)),
    *(refused(f"{name}: a file", "call/generate", changed(place, FILE)) for place, name in enumerate(FIELDS)),
    *(
        refused(f"{FIELDS[place]}: {value!r}", "call/generate", changed(place, value))
        for place, value in (
            (0, 3),
            (0, True),
            (0, "\ud83d"),
            (2, "4"),
            (2, True),
            (3, 1),
            (4, -1),
            (6, 0),
            (7, 3),
            (8, "x"),
        )
    ),
    *(refused(name, path, body) for name, (path, body) in HOSTILE.items()),
)
