"""Folders of images as cameras, systems and other trainers leave them."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.damage.inputs.kinds import Input, Records, Trial, Wanted, png, prepare, write

FAMILY = "folders"
HIDDEN = b"\0\5\x16\7\0\2\0\0Mac OS X"
Files = dict[str, bytes | str]


def holds(
    name: str,
    files: Callable[[bytes], Files],
    wanted: Mapping[str, str],
    after: Callable[[Path], Any] = lambda folder: None,
    flag: str = "--folder={}",
    *flags: str,
) -> Input:
    """A folder of one image (in one place or more); `wanted` has the records' names and captions."""

    def make(folder: Path, out: Path, rng: Random) -> Trial:
        image = png(rng)
        write(folder, files(image))
        after(folder)
        records = {
            f"folder/{file}": Wanted({"zh" if "\u4e00" <= text[0] <= "\u9fff" else "en": [text]}, image)
            for file, text in wanted.items()
        }
        return Trial(prepare(out, flag.format(folder), *flags), Records(records).check)

    return Input(FAMILY, name, make)


def refused(
    name: str,
    files: Callable[[bytes], Files],
    says: str,
    after: Callable[[Path], Any] = lambda folder: None,
    flag: str = "--folder={}",
) -> Input:
    def make(folder: Path, out: Path, rng: Random) -> Trial:
        write(folder, files(png(rng)))
        after(folder)
        return Trial(prepare(out, flag.format(folder)), says=(says,))

    return Input(FAMILY, name, make)


def pair(stem: str = "a", caption: str = "a cat") -> Callable[[bytes], Files]:
    return lambda image: {f"{stem}.png": image, f"{stem}.txt": caption}


def linked(folder: Path) -> None:
    (folder / "a.png").rename(folder.parent / "copy" / "elsewhere")
    (folder / "a.png").symlink_to(folder / "elsewhere")


def closed(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more").chmod(0)


def raw_name(folder: Path) -> None:
    (folder / os.fsdecode(b"\xe8\xb0.png")).write_bytes((folder / "a.png").read_bytes())


NAMED = {
    "spaces": "a b  c",
    "brackets": "[1] {a} (b)",
    "Chinese": "一只猫",
    "emoji": "🐼 a",
    "composed accents": "é",
    "decomposed accents": "e\u0301",
    "200 bytes": "x" * 200,
    "plus, percent, hash": "a+b%20#c&d",
    "a line end": "a\nb",
    "quotes": "a'b\"c",
    "a backslash": "a\\b",
    "a colon": "a:b",
    "dots": "a.b.c",
    "a dot in front": ".a",
    "a dash in front": "-a",
    "a folder": "x/y/z/a",
    "a folder with a dot": "x.y/a",
}
INPUTS = (
    *(holds(f"name with {what}", pair(stem), {f"{stem}.png": "a cat"}) for what, stem in NAMED.items()),
    holds("capitals in suffixes", lambda image: {"a.PNG": image, "a.TXT": "a cat"}, {"a.PNG": "a cat"}),
    holds("accents spelt in both ways", lambda image: {"é.png": image, "e\u0301.txt": "a cat"}, {"é.png": "a cat"}),
    holds(
        "hidden files",
        lambda image: {
            **pair()(image),
            "._a.png": HIDDEN,
            "._a.txt": HIDDEN,
            ".DS_Store": HIDDEN,
            "Thumbs.db": b"x",
            "desktop.ini": b"x",
        },
        {"a.png": "a cat"},
    ),
    holds("hidden folder of macOS", lambda image: {**pair()(image), "__MACOSX/._a.png": HIDDEN}, {"a.png": "a cat"}),
    holds("a folder called x.png", lambda image: {**pair()(image), "x.png/notes.md": "x"}, {"a.png": "a cat"}),
    holds("empty folders", pair(), {"a.png": "a cat"}, lambda folder: (folder / "x/y").mkdir(parents=True)),
    holds("an image that is a link", pair(), {"a.png": "a cat"}, linked),
    holds(
        "repeats and concept in the folder's name",
        lambda image: {"10_red_panda/a.png": image, "5_猫/b.png": image},
        {"10_red_panda/a.png": "red panda", "5_猫/b.png": "猫"},
    ),
    holds(
        "captions before the folder's name",
        lambda image: {"10_red_panda/a.png": image, "10_red_panda/a.caption": "a cat"},
        {"10_red_panda/a.png": "a cat"},
    ),
    holds(
        "metadata.csv of a hub",
        lambda image: {"train/a.png": image, "metadata.csv": "file_name,text\ntrain/a.png,a cat\n"},
        {"train/a.png": "a cat"},
    ),
    holds(
        "both tables",
        lambda image: {
            "a.png": image,
            "captions.jsonl": '{"file": "a.png", "en": "a cat"}',
            "metadata.csv": "file,en\na.png,other\n",
        },
        {"a.png": "a cat"},
    ),
    holds(
        "a table and files",
        lambda image: {**pair(caption="other")(image), "captions.csv": "file,en\na.png,a cat\n"},
        {"a.png": "a cat"},
    ),
    holds(
        "names of Windows in a table",
        lambda image: {"x/a.png": image, "captions.csv": "file,en\n.\\x\\a.png,a cat\n"},
        {"x/a.png": "a cat"},
    ),
    holds("GIF without a caption", lambda image: {**pair()(image), "b.gif": b"GIF89a"}, {"a.png": "a cat"}),
    holds(
        "unpaired and unreadable files, skipped",
        lambda image: {
            **pair()(image),
            "b.png": image,
            "c.txt": "x",
            "d.png": b"x",
            "d.txt": "d",
            "e.heic": b"x",
            "e.txt": "e",
        },
        {"a.png": "a cat"},
        lambda folder: None,
        "--folder={}",
        "--on_mismatch=skip",
    ),
    refused("no images", lambda image: {"a.txt": "a cat"}, "holds no images"),
    refused("empty", lambda image: {}, "holds no images"),
    refused("GIF alone", lambda image: {"a.gif": b"GIF89a", "a.txt": "a cat"}, "a.gif"),
    *(
        refused(
            f"{suffix} with a caption",
            lambda image, suffix=suffix: {**pair()(image), f"b{suffix}": b"x", "b.txt": "x"},
            f"b{suffix}",
        )
        for suffix in (".svg", ".HEIC", ".gif", ".avif", ".tiff", ".bmp")
    ),
    refused("image without a caption", lambda image: {**pair()(image), "b.png": image}, "b.png"),
    refused("caption without an image", lambda image: {**pair()(image), "b.txt": "x"}, "b.txt"),
    refused(
        "name in two spellings",
        lambda image: {"é.png": image, "e\u0301.png": image, "captions.jsonl": '{"file": "./é.png", "en": "x"}'},
        "write its name exactly",
    ),
    refused("name that is not UTF-8", pair(), "not UTF-8", raw_name),
    refused(
        "a link to nothing",
        pair(),
        "b.",
        lambda folder: ((folder / "b.txt").write_text("x"), (folder / "b.png").symlink_to("nothing")),
    ),
    refused("a file in its place", pair(), "not a folder", flag="--folder={}/a.png"),
    refused("nowhere", pair(), "not a folder", flag="--folder={}/x"),
    refused("a URL", pair(), "--folder=s3://x/y", flag="--folder=s3://x/y"),
    *([] if os.geteuid() == 0 else [refused("a folder that cannot be read", pair(), "more", closed)]),
)
