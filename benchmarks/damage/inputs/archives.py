"""Tars, as packers write them."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.damage.inputs.kinds import Input, Records, Trial, Wanted, png, prepare, write

FAMILY = "tars"
Member = tuple[str, bytes | str | tarfile.TarInfo]


def tar(members: Sequence[Member], form: int = tarfile.PAX_FORMAT, folder: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as file:
        if folder:
            info = tarfile.TarInfo(folder)
            info.type = tarfile.DIRTYPE
            file.addfile(info)
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                file.addfile(content)
                continue
            data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return name, info


def given(
    family: str,
    name: str,
    flag: str,
    make: Callable[[Random], tuple[dict[str, bytes | str], Records | None]],
    says: str = "",
) -> Input:
    """Files for `--tars=...` or the like; `{}` in the flag is their folder. Without records it has to be refused."""

    def trial(folder: Path, out: Path, rng: Random) -> Trial:
        files, records = make(rng)
        write(folder, files)
        line = prepare(out, flag.format(folder))
        return Trial(line, records.check) if records else Trial(line, says=(says,))

    return Input(family, name, trial)


def pair(stem: str, image: bytes, caption: str = "a cat", suffix: str = ".png") -> list[Member]:
    return [(f"{stem}{suffix}", image), (f"{stem}.txt", caption)]


def of(**wanted: tuple[bytes, Any]) -> Records:
    return Records({name: Wanted(captions, image) for name, (image, captions) in wanted.items()})


CAT: dict[str, list[str]] = {"en": ["a cat"]}


def one(
    name: str,
    members: Callable[[bytes], Sequence[Member]],
    id: str = "tars/0/a",
    captions: Any = CAT,
    *,
    more: bytes = b"",
    **how: Any,
) -> Input:
    """A tar of which one record has to come."""

    def make(rng: Random) -> tuple[dict[str, bytes | str], Records]:
        image = png(rng)
        return {"0.tar": tar(members(image), **how) + more}, of(**{id: (image, captions)})

    return given(FAMILY, name, "--tars={}/0.tar", make)


def bad(name: str, content: Callable[[Random], bytes], says: str = "0.tar") -> Input:
    return given(FAMILY, name, "--tars={}/0.tar", lambda rng: ({"0.tar": content(rng)}, None), says)


def cut(rng: Random) -> bytes:
    """Cut anywhere before the end mark, as a download that broke off."""
    content = tar([member for number in range(4) for member in pair(f"{number}", png(rng), "x" * 700)])
    end = len(content.rstrip(b"\0"))
    return content[: rng.randrange(1, end)]


def no_mark(rng: Random) -> bytes:
    """Cut after its last member, where nothing is missing but the two blocks of zeros."""
    content = tar(pair("a", png(rng)))
    return content[: -(-len(content.rstrip(b"\0")) // 512) * 512]


def flipped(rng: Random) -> bytes:
    content = bytearray(tar(pair("a", png(rng)) + pair("b", png(rng))))
    content[rng.randrange(100)] ^= 1  # in the name of the first member, below its checksum
    return bytes(content)


def zipped(rng: Random) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.png", png(rng))
        file.writestr("a.txt", "a cat")
    return buffer.getvalue()


def sparse(rng: Random) -> bytes:
    content = bytearray(tar([("a.png", png(rng)), ("a.txt", "a cat")], tarfile.GNU_FORMAT))
    content[156:157] = b"S"
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    return bytes(content)


LONG = "x" * 120
INPUTS = (
    one("plain", lambda image: pair("a", image)),
    one("./ before names", lambda image: pair("./a", image)),
    one("./ before some names", lambda image: [("./a.png", image), ("a.txt", "a cat")]),
    one("folders, with an entry of their own", lambda image: pair("f/a", image), "tars/0/f/a", folder="f"),
    one("brackets and spaces", lambda image: pair("[1] (a)", image), "tars/0/[1] (a)"),
    one("backslashes", lambda image: pair("f\\a", image), "tars/0/f\\a"),
    one("long names, PAX", lambda image: pair(f"{LONG}/{LONG}", image), f"tars/0/{LONG}/{LONG}"),
    one(
        "long names, GNU", lambda image: pair(f"{LONG}/{LONG}", image), f"tars/0/{LONG}/{LONG}", form=tarfile.GNU_FORMAT
    ),
    one("old format", lambda image: pair("a", image), form=tarfile.USTAR_FORMAT),
    one("names from the root", lambda image: pair("/a", image), "tars/0/a"),
    one("names above the tar", lambda image: pair("../a", image), "tars/0/../a"),
    one("composed and decomposed accents", lambda image: [("é.png", image), ("e\u0301.txt", "a cat")], "tars/0/é"),
    one(
        "hidden files of macOS",
        lambda image: [*pair("a", image), ("._a.png", b"\0\5\x16\7"), ("._a.txt", b"\0\5\x16\7")],
    ),
    one(
        "hidden files of macOS, in their folder", lambda image: [*pair("a", image), ("__MACOSX/._a.png", b"\0\5\x16\7")]
    ),
    one("files without an extension", lambda image: [*pair("a", image), ("LICENSE", "free"), (".gitignore", "x")]),
    one("other files of the example", lambda image: [*pair("a", image), ("a.cls", "3"), ("a.npy", b"\x93NUMPY")]),
    one("a depth map beside the image", lambda image: [("a.depth.png", b"not read"), *pair("a", image)]),
    one("capitals in extensions", lambda image: [("a.PNG", image), ("a.TXT", "a cat")]),
    one("caption of both files, once", lambda image: [*pair("a", image), ("a.json", '{"caption": "a cat"}')]),
    one(
        "captions of several files",
        lambda image: [*pair("a", image), ("a.caption", "a cat\n一只猫"), ("a.json", '{"text": "red"}')],
        captions={"en": ["red", "a cat"], "zh": ["一只猫"]},
    ),
    one(
        "a language in the name",
        lambda image: [("a.png", image), ("a.zh.txt", "一只猫"), ("a.en.txt", "a cat")],
        captions={"zh": ["一只猫"], "en": ["a cat"]},
    ),
    one("byte order marks", lambda image: [("a.png", image), ("a.txt", "\ufeffa cat")]),
    one("a byte order mark before JSON", lambda image: [("a.png", image), ("a.json", '\ufeff{"text": "a cat"}')]),
    one(
        "line separators in captions",
        lambda image: pair("a", image, "a\u2028cat\x85x"),
        captions={"en": ["a\u2028cat\x85x"]},
    ),
    one("kilobytes of zeros at the end", lambda image: pair("a", image), more=bytes(100_000)),
    one("a symbolic link beside", lambda image: [*pair("a", image), link("b.cfg", "/etc/passwd", tarfile.SYMTYPE)]),
    *(bad(f"cut off, {number}", cut) for number in range(1, 7)),
    bad("end mark missing", no_mark),
    bad("bit of a header flipped", flipped),
    bad("compressed", lambda rng: gzip.compress(tar(pair("a", png(rng))))),
    bad("a zip", zipped),
    bad("empty file", lambda rng: b""),
    bad("random bytes", lambda rng: rng.randbytes(5000)),
    bad("joined with cat", lambda rng: tar(pair("a", png(rng))) + tar(pair("b", png(rng)))),
    bad("sparse file", sparse),
    bad("a name twice", lambda rng: tar(pair("a", png(rng)) + pair("a", png(rng)))),
    bad("a name in both spellings", lambda rng: tar(pair("é", png(rng)) + pair("e\u0301", png(rng)))),
    bad("extensions that differ in capitals", lambda rng: tar([*pair("a", png(rng)), ("a.PNG", png(rng))])),
    bad("two images of an example", lambda rng: tar([*pair("a", png(rng)), ("a.jpg", png(rng))]), "a.jpg"),
    bad(
        "image that is a link",
        lambda rng: tar([("b.png", png(rng)), ("b.txt", "b"), link("a.png", "b.png", tarfile.SYMTYPE), ("a.txt", "a")]),
        "0/a",
    ),
    bad("JSON that is a list", lambda rng: tar([("a.png", png(rng)), ("a.json", '["a cat"]')]), "a.json"),
    bad("JSON nested deeply", lambda rng: tar([("a.png", png(rng)), ("a.json", "[" * 100_000)]), "a.json"),
    bad(
        "JSON with a key twice",
        lambda rng: tar([("a.png", png(rng)), ("a.json", '{"text": "a", "text": "b"}')]),
        "a.json",
    ),
    bad(
        "half of a character in JSON",
        lambda rng: tar([("a.png", png(rng)), ("a.json", '{"text": "\\ud83d"}')]),
        "a.json",
    ),
    bad(
        "caption that is not UTF-8",
        lambda rng: tar([("a.png", png(rng)), ("a.txt", "桌上的猫".encode("gb18030"))]),
        "a.txt",
    ),
    bad(
        "name that is not UTF-8",
        lambda rng: tar(pair("a", png(rng)), tarfile.GNU_FORMAT).replace(b"a.png\0", b"\xe8.png\0"),
        "0.tar",
    ),
    bad("image without a caption", lambda rng: tar([*pair("a", png(rng)), ("b.png", png(rng))]), "0/b"),
    bad("caption without an image", lambda rng: tar([*pair("a", png(rng)), ("b.txt", "b")]), "0/b"),
    bad("HEIC with a caption", lambda rng: tar([*pair("a", png(rng)), ("b.heic", b"x"), ("b.txt", "b")]), "b.heic"),
    bad("folders alone", lambda rng: tar([], folder="f"), "0.tar"),
    bad("image cut off", lambda rng: tar(pair("a", png(rng)[:60])), "a.png"),
    given(
        FAMILY,
        "two tars of a name",
        "--tars={}/**/0.tar",
        lambda rng: (
            {"x/0.tar": tar(pair("a", x := png(rng), "x")), "y/0.tar": tar(pair("a", y := png(rng), "y"))},
            of(**{"tars/x/0/a": (x, {"en": ["x"]}), "tars/y/0/a": (y, {"en": ["y"]})}),
        ),
    ),
    given(
        FAMILY,
        "a folder of tars, with hidden ones",
        "--tars={}",
        lambda rng: (
            {"0.tar": tar(pair("a", x := png(rng))), "._0.tar": b"\0\5\x16\7", "notes.txt": "x"},
            of(**{"tars/0/a": (x, CAT)}),
        ),
    ),
    given(
        FAMILY,
        "a pattern of numbers",
        "--tars={}/s-{{00..02}}.tar",
        lambda rng: (
            {f"s-0{n}.tar": tar(pair("a", png(rng), f"a {n}")) for n in range(3)},
            Records({f"tars/s-0{n}/a": Wanted({"en": [f"a {n}"]}) for n in range(3)}),
        ),
    ),
    given(
        FAMILY,
        "brackets in the folder's name",
        "--tars={}/[x]/0.tar",
        lambda rng: ({"[x]/0.tar": tar(pair("a", x := png(rng)))}, of(**{"tars/0/a": (x, CAT)})),
    ),
    given(
        FAMILY,
        "a pattern that matches nothing",
        "--tars={}/*.tar",
        lambda rng: ({"0.zip": b""}, None),
        "matches no file",
    ),
    given(FAMILY, "a URL", "--tars=gs://bucket/0.tar", lambda rng: ({}, None), "gs://bucket/0.tar cannot be reached"),
)
