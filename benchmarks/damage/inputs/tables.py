"""Tables of captions and text files, as editors, spreadsheets and scripts leave them."""

import csv
import gzip
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.damage.inputs.kinds import Input, Records, Trial, Wanted, png, prepare, write

FAMILY = "tables"
HAN = re.compile("[\u4e00-\u9fff]")
NAMES = ("a.png", "b.png", "c.png")
Rows = list[tuple[str, str]]


def plain_rows(rng: Random) -> Rows:
    words = rng.sample(["一只猫", "a cat", "red tea", "蓝色的杯子", "a dog, asleep", "two 🐼 “birds”"], 3)
    return list(zip(NAMES, words, strict=True))


def jsonl(rows: Rows, escaped: bool = False) -> str:
    return "".join(json.dumps({"file": name, "caption": text}, ensure_ascii=escaped) + "\n" for name, text in rows)


def comma(rows: Rows, ends: str = "\n") -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=ends).writerows([("file", "caption"), *rows])
    return buffer.getvalue()


def by_language(*captions: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in captions:
        found.setdefault("zh" if HAN.search(text) else "en", []).append(text)
    return found


def trial_of(
    folder: Path, out: Path, rng: Random, files: dict[str, bytes | str], rows: Rows | None, *says: str
) -> Trial:
    """Three images with the files beside them; `rows` are the captions to come of it, None if it has to be refused."""
    images = {name: png(rng) for name in NAMES}
    write(folder, {**images, **files})
    line = prepare(out, f"--folder={folder}")
    if rows is None:
        return Trial(line, says=says)
    captions: dict[str, list[str]] = {}
    for name, text in rows:
        captions.setdefault(name, []).append(text)
    wanted = {f"folder/{name}": Wanted(by_language(*texts), images[name]) for name, texts in captions.items()}
    return Trial(line, Records(wanted).check)


def odd(name: str, table: str, change: Callable[[Rows, Random], tuple[bytes | str, Rows]]) -> Input:
    """A table that is unusual and valid: `change(rows, rng)` -> (its content, the captions that it means)."""

    def make(folder: Path, out: Path, rng: Random) -> Trial:
        content, rows = change(plain_rows(rng), rng)
        return trial_of(folder, out, rng, {table: content}, rows)

    return Input(FAMILY, f"{table}: {name}", make)


def wrong(name: str, table: str, change: Callable[[Rows, Random], bytes | str], *says: str) -> Input:
    """A table that has to be refused, by a sentence with its name."""

    def make(folder: Path, out: Path, rng: Random) -> Trial:
        return trial_of(folder, out, rng, {table: change(plain_rows(rng), rng)}, None, table, *says)

    return Input(FAMILY, f"{table}: {name}", make)


def with_text(text: str) -> Callable[[Rows, Random], Rows]:
    """Rows, of which a random one has another caption, with `{}` as the place of its own."""

    def change(rows: Rows, rng: Random) -> Rows:
        place = rng.randrange(len(rows))
        return [(name, text.replace("{}", old) if i == place else old) for i, (name, old) in enumerate(rows)]

    return change


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


TEXTS = {
    "U+2028 in a caption": "{} one\u2028line",
    "U+2029 in a caption": "{} one\u2029line",
    "U+0085 in a caption": "{} one\x85line",
    "form feed and vertical tab in a caption": "{} one\x0cline\x0bhere",
    "file separators in a caption": "{} one\x1cline\x1dhere\x1ethere",
    "special tokens that a person typed": "{} [SEP] [n] <s> </s> <unk> [PAD]",
    "emoji of several characters": "{} 👩‍👩‍👧 🏳️‍🌈",
    "decomposed accents": "{} cafe\u0301 u\u0308",
    "right-to-left marks": "{} \u200fabc\u200e",
    "20,000 characters": "{} " + "very " * 4000 + "long",
    "markup and quotes": "{} <b>&amp;</b> 'x' `y` \\n %s {{}}",
    "tabs inside": "{} one\ttwo",
}

VALID: tuple[Input, ...] = (
    *(
        odd(name, table, lambda rows, rng, text=text, form=form: (form(found := with_text(text)(rows, rng)), found))
        for name, text in TEXTS.items()
        for table, form in (("captions.jsonl", jsonl), ("captions.csv", comma))
    ),
    *(
        odd(name, table, lambda rows, rng, form=form, change=change: (change(form(rows)), rows))
        for name, change in {
            "byte order mark": lambda text: "\ufeff" + text,
            "CRLF": lambda text: text.replace("\n", "\r\n"),
            "CR alone": lambda text: text.replace("\n", "\r"),
            "no end of the last line": lambda text: text.removesuffix("\n"),
            "blank lines": lambda text: text.replace("\n", "\n\n  \n"),
        }.items()
        for table, form in (("metadata.jsonl", jsonl), ("metadata.csv", comma))
    ),
    odd("escaped pairs of surrogates", "captions.jsonl", lambda rows, rng: (jsonl(rows, True), rows)),
    odd(
        "byte order marks in the middle",
        "captions.jsonl",
        lambda rows, rng: ("\ufeff" + jsonl(rows).replace("\n", "\n\ufeff").removesuffix("\ufeff"), rows),
    ),
    odd(
        "names in capitals",
        "captions.jsonl",
        lambda rows, rng: (jsonl(rows).replace('"file"', '"File"').replace('"caption"', '"TEXT"'), rows),
    ),
    odd(
        "names in capitals, with spaces",
        "captions.csv",
        lambda rows, rng: (comma(rows).replace("file,caption", " File , Caption ", 1), rows),
    ),
    odd(
        "every cell quoted",
        "captions.csv",
        lambda rows, rng: ("".join(f'"{n}","{t}"\r\n' for n, t in [("file", "caption"), *rows]), rows),
    ),
    odd(
        "line ends and quotes in quoted cells",
        "captions.csv",
        lambda rows, rng: (comma(found := with_text('{} "so"\nsaid he')(rows, rng)), found),
    ),
    odd(
        "more columns, in another order",
        "captions.csv",
        lambda rows, rng: ("id,caption,file,x\n" + "".join(f'{i},"{t}",{n},\n' for i, (n, t) in enumerate(rows)), rows),
    ),
    odd(
        "empty cells after the last column",
        "captions.csv",
        lambda rows, rng: (comma(rows).replace("\n", ",,\n").replace("caption,,", "caption", 1), rows),
    ),
    odd(
        "rows without their last cells",
        "captions.csv",
        lambda rows, rng: ("file,caption,concept,objects\n" + comma(rows).split("\n", 1)[1], rows),
    ),
)


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


def beside(name: str, change: Callable[[str], bytes | str] | None, text: str = "{}", suffix: str = ".txt") -> Input:
    """Captions in files beside the images; without `change` the content has to be refused."""

    def make(folder: Path, out: Path, rng: Random) -> Trial:
        rows = with_text(text)(plain_rows(rng), rng)
        content = {f"{name[0]}{suffix}": change(caption) if change else caption for name, caption in rows}
        return trial_of(folder, out, rng, dict(content), rows)

    return Input(FAMILY, f"1{suffix}: {name}", make)


def beside_wrong(name: str, content: bytes | str) -> Input:
    def make(folder: Path, out: Path, rng: Random) -> Trial:
        files: dict[str, bytes | str] = {f"{one[0]}.txt": text for one, text in plain_rows(rng)}
        return trial_of(folder, out, rng, {**files, "b.txt": content}, None, "b.txt")

    return Input(FAMILY, f"1.txt: {name}", make)


FILES = (
    *(beside(name, None, text) for name, text in TEXTS.items()),
    beside("byte order mark", lambda text: "\ufeff" + text),
    beside("CRLF and blank lines", lambda text: f"\r\n{text}\r\n\r\n"),
    beside("spaces around", lambda text: f"  {text}\t \n"),
    beside("another suffix", None, suffix=".caption"),
    beside_wrong("GB 18030", "桌上的猫".encode("gb18030")),
    beside_wrong("UTF-16", "a cat".encode("utf-16")),
    beside_wrong("NUL", "a\0cat"),
    beside_wrong("half of a character", "a \ud83d cat"),
    Input(
        FAMILY,
        "1.txt: blank",
        lambda folder, out, rng: trial_of(
            folder, out, rng, {"a.txt": " \n\ufeff\n", "b.txt": "b", "c.txt": "c"}, None, "a.png"
        ),
    ),
)
INPUTS = (*VALID, *OBJECTS, *WRONG, *FILES)
