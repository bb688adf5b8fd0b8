"""Tables that have to be refused, and the objects of a row."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.damage.inputs.kinds import Input, Records, Trial, Wanted, png, prepare, write
from benchmarks.damage.inputs.tables import FAMILY, Rows, comma, jsonl, plain_rows, trial_of, with_text


def wrong(name: str, table: str, change: Callable[[Rows, Random], bytes | str], *says: str) -> Input:
    """A table that has to be refused, by a sentence with its name."""

    def make(folder: Path, out: Path, rng: Random) -> Trial:
        return trial_of(folder, out, rng, {table: change(plain_rows(rng), rng)}, None, table, *says)

    return Input(FAMILY, f"{table}: {name}", make)


def field(**fields: Any) -> Callable[[Rows, Random], str]:
    """A .jsonl whose random row has other fields."""

    def change(rows: Rows, rng: Random) -> str:
        lines = [{"file": name, "caption": text} for name, text in rows]
        lines[rng.randrange(len(lines))].update(fields)
        return "\n".join(json.dumps(line) for line in lines)

    return change


def raw(line: str) -> Callable[[Rows, Random], str]:
    """A .jsonl with a line at a random place."""

    def change(rows: Rows, rng: Random) -> str:
        lines = jsonl(rows).splitlines()
        lines.insert(rng.randrange(len(lines) + 1), line)
        return "\n".join(lines)

    return change


def objects_row(objects: Any, out_objects: Any) -> Callable[[Path, Path, Random], Trial]:
    def make(folder: Path, out: Path, rng: Random) -> Trial:
        image = png(rng)
        row = {"file": "a.png", "en": "a cat", "objects": objects}
        write(folder, {"a.png": image, "captions.jsonl": json.dumps(row)})
        records = Records({"folder/a.png": Wanted({"en": ["a cat"]}, image, objects=out_objects)})
        return Trial(prepare(out, f"--folder={folder}"), records.check)

    return make


BOX = [0.1, 0.2, 0.5, 1]
OBJECTS = (
    Input(FAMILY, "objects: none", objects_row([], [])),
    Input(FAMILY, "objects: null", objects_row(None, [])),
    Input(
        FAMILY,
        "objects: a name as text",
        objects_row([{"name": "cat", "box": BOX}], [{"name": {"en": "cat"}, "box": BOX}]),
    ),
    Input(
        FAMILY,
        "objects: a Chinese name",
        objects_row([{"name": "猫", "box": BOX}], [{"name": {"zh": "猫"}, "box": BOX}]),
    ),
    Input(
        FAMILY, "objects: no name", objects_row([{"box": BOX, "score": 0.5}], [{"box": BOX, "score": 0.5, "name": {}}])
    ),
    *(
        wrong(f"objects: {name}", "captions.jsonl", field(objects=value), "line ")
        for name, value in {
            "text": "cat",
            "one object without a list": {"name": "cat", "box": BOX},
            "a list of boxes": [BOX],
            "no box": [{"name": "cat", "bbox": BOX}],
            "three numbers": [{"name": "cat", "box": [0, 0, 1]}],
            "pixels": [{"name": "cat", "box": [10, 20, 200, 300]}],
            "corners exchanged": [{"name": "cat", "box": [0.5, 0.2, 0.1, 1]}],
            "text in the box": [{"name": "cat", "box": ["0", "0", "1", "1"]}],
            "truth values in the box": [{"name": "cat", "box": [False, False, True, True]}],
            "NaN in the box": [{"name": "cat", "box": [0, 0, float("nan"), 1]}],
            "an endless box": [{"name": "cat", "box": [0, 0, float("inf"), 1]}],
            "numbers beyond floats": [{"name": "cat", "box": [0, 0, 10**400, 1]}],
            "a list of names": [{"name": ["cat"], "box": BOX}],
            "a name that is a number": [{"name": {"en": 3}, "box": BOX}],
            "a score that is text": [{"name": "cat", "box": BOX, "score": "high"}],
        }.items()
    ),
)

WRONG: tuple[Input, ...] = (
    *(
        wrong(name, "captions.jsonl", field(caption=value), "line ")
        for name, value in {
            "a caption that is a number": 3,
            "a caption that is NaN": float("nan"),
            "a caption that is true": True,
            "a caption that is an object": {"en": "a"},
            "a caption in a list in a list": [["a"]],
            "half of a character in a caption": "a \ud83d",
            "the other half": "\udc3c a",
            "halves in the wrong order": "\udc3c\ud83d",
            "an escaped NUL in a caption": "a\0b",
        }.items()
    ),
    *(
        wrong(name, "captions.jsonl", field(**{key: value}), "line ")
        for name, key, value in (
            ("half of a character in a name", "file", "a\ud83d.png"),
            ("half of a character in a key", "x\ud83d", 1),
            ("half of a character in a concept", "concept", "x\ud83d"),
            ("a concept that is a list", "concept", ["x"]),
            ("a file that is a number", "file", 3),
            ("a file that is null", "file", None),
            ("a file that is empty", "file", ""),
            ("two names that differ in capitals", "Caption", "other"),
        )
    ),
    *(
        wrong(name, "captions.jsonl", raw(line), "line ")
        for name, line in {
            "nested 100,000 deep": '{"file": "a.png", "caption": ' + "[" * 100_000 + "]" * 100_000 + "}",
            "nested 100,000 deep, not closed": "[" * 100_000,
            "a key twice": '{"file": "d.png", "caption": "x", "caption": "y"}',
            "a key twice, inside": '{"file": "d.png", "caption": "x", "more": {"a": 1, "a": 2}}',
            "single quotes": "{'file': 'd.png', 'caption': 'x'}",
            "a comma too many": '{"file": "d.png", "caption": "x",}',
            "cut off": '{"file": "d.png", "capt',
            "two objects in a line": '{"file": "d.png"} {"caption": "x"}',
            "a list": '["d.png", "x"]',
            "a number": "7",
            "null": "null",
            "a comment": "// three images",
            "a number of 5,000 digits": '{"file": "a.png", "caption": "x", "n": ' + "9" * 5000 + "}",
            "an image twice": '{"file": "a.png", "caption": "another"}',
        }.items()
    ),
    wrong(
        "one JSON list",
        "captions.jsonl",
        lambda rows, rng: json.dumps([{"file": n, "caption": t} for n, t in rows], indent=1),
        "line ",
    ),
    wrong("GB 18030", "captions.csv", lambda rows, rng: comma(with_text("{} 桌上的猫")(rows, rng)).encode("gb18030")),
    wrong("UTF-16", "captions.csv", lambda rows, rng: comma(rows).encode("utf-16")),
    wrong(
        "UTF-16 without a mark",
        "captions.csv",
        lambda rows, rng: comma(with_text("{} 猫")(rows, rng)).encode("utf-16-le"),
    ),
    wrong("Latin-1", "captions.jsonl", lambda rows, rng: jsonl([(n, "café") for n, _ in rows]).encode("latin-1")),
    wrong(
        "half of a character as bytes",
        "captions.csv",
        lambda rows, rng: comma(with_text("{} \ud83d")(rows, rng)).encode("utf-8", "surrogatepass"),
    ),
    wrong("NUL", "captions.csv", lambda rows, rng: comma(with_text("{}\0")(rows, rng)), "line "),
    wrong("compressed", "captions.csv", lambda rows, rng: gzip.compress(comma(rows).encode())),
    wrong("random bytes", "captions.jsonl", lambda rows, rng: b"\xff" + rng.randbytes(300)),
    wrong(
        "quote that is not closed",
        "captions.csv",
        lambda rows, rng: comma([]) + 'a.png,"a cat\nb.png,a dog\nc.png,x\n',
        "line ",
    ),
    wrong(
        "quotes that are not doubled",
        "captions.csv",
        lambda rows, rng: comma([]) + 'a.png,"a "big" cat"\nb.png,x\nc.png,y\n',
        "line 2",
    ),
    wrong(
        "row longer than the header",
        "captions.csv",
        lambda rows, rng: comma([]) + "a.png,a cat, asleep\nb.png,x\nc.png,y\n",
        "line 2",
    ),
    wrong(
        "a cell of more than 131,072 characters",
        "captions.csv",
        lambda rows, rng: comma(with_text("{} " + "x" * 140_000)(rows, rng)),
        "131072",
    ),
    wrong("a column twice", "captions.csv", lambda rows, rng: "file,caption,caption\na.png,x,y\n", "line 1"),
    wrong("semicolons", "captions.csv", lambda rows, rng: comma(rows).replace(",", ";")),
    wrong("tabs", "captions.csv", lambda rows, rng: comma(rows).replace(",", "\t")),
    wrong("no header", "captions.csv", lambda rows, rng: comma(rows).split("\n", 1)[1]),
    wrong("empty", "captions.csv", lambda rows, rng: ""),
    Input(
        FAMILY,
        "captions.jsonl: empty",
        lambda folder, out, rng: trial_of(folder, out, rng, {"captions.jsonl": ""}, None, "images without a caption"),
    ),
    Input(
        FAMILY,
        "captions.jsonl: a name above the folder",
        lambda folder, out, rng: trial_of(
            folder / "in",
            out,
            rng,
            {"captions.jsonl": jsonl([*plain_rows(rng), ("../d.png", "x")]), "../d.png": png(rng)},
            None,
            "../d.png",
        ),
    ),
    Input(
        FAMILY,
        "captions.jsonl: a name of the system",
        lambda folder, out, rng: trial_of(
            folder, out, rng, {"captions.jsonl": jsonl([*plain_rows(rng), ("/etc/passwd", "x")])}, None, "/etc/passwd"
        ),
    ),
)
INPUTS = (*OBJECTS, *WRONG)
