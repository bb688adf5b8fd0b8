"""Tables of captions and text files, as editors, spreadsheets and scripts leave them."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random

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


def with_text(text: str) -> Callable[[Rows, Random], Rows]:
    """Rows, of which a random one has another caption, with `{}` as the place of its own."""

    def change(rows: Rows, rng: Random) -> Rows:
        place = rng.randrange(len(rows))
        return [(name, text.replace("{}", old) if i == place else old) for i, (name, old) in enumerate(rows)]

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
INPUTS = (*VALID, *FILES)
