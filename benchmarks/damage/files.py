"""Damage to any file or folder: bits, lengths, wrong types, foreign files."""

import os
import re
import shutil
from pathlib import Path
from random import Random

from benchmarks.damage.kinds import Damage, Place, Unfit


def files_of(part: Path) -> list[Path]:
    """All non-empty files of a part, in an order that does not depend on random file names."""
    files = [part] if part.is_file() else [file for file in part.rglob("*") if file.is_file()]
    held = [file for file in files if file.stat().st_size]
    return sorted(held, key=lambda file: (re.sub(r"[0-9a-f]{32}", "", str(file)), file.stat().st_size))


def one_file(place: Place, rng: Random) -> Path:
    """A file of the part; large ones are drawn as often as all files together."""
    files = files_of(place.part)
    if not files:
        raise Unfit
    large = [file for file in files if file.stat().st_size > 2000]
    return rng.choice(large if large and rng.random() < 0.5 else files)


def folders_of(part: Path) -> list[Path]:
    return sorted(folder for folder in part.rglob("*") if folder.is_dir())


def name(place: Place, file: Path) -> str:
    return str(file.relative_to(place.copy))


def flip_bits(place: Place, rng: Random) -> str:
    file = one_file(place, rng)
    content = bytearray(file.read_bytes())
    places = [rng.randrange(len(content)) for _ in range(rng.choice((1, 1, 1, 3, 10)))]
    for where in places:
        content[where] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    return f"{len(places)} bits of {name(place, file)} flipped, the first in byte {places[0]}"


def write_bytes(place: Place, rng: Random) -> str:
    file = one_file(place, rng)
    content = bytearray(file.read_bytes())
    where = rng.randrange(len(content))
    length = min(rng.choice((1, 4, 64, 512)), len(content) - where)
    content[where : where + length] = bytes(length) if rng.random() < 0.3 else rng.randbytes(length)
    file.write_bytes(content)
    return f"{length} bytes of {name(place, file)} overwritten from byte {where}"


def cut_off(place: Place, rng: Random) -> str:
    file = one_file(place, rng)
    content = file.read_bytes()
    left = rng.choice((len(content) - 1, len(content) // 2, rng.randrange(len(content))))
    file.write_bytes(content[:left])
    return f"{name(place, file)} cut from {len(content)} to {left} bytes"


def lengthen(place: Place, rng: Random) -> str:
    file = one_file(place, rng)
    more = rng.randbytes(rng.choice((1, 100, 4096)))
    file.write_bytes(file.read_bytes() + more)
    return f"{len(more)} bytes added to {name(place, file)}"


def empty(place: Place, rng: Random) -> str:
    file = one_file(place, rng)
    file.write_bytes(b"")
    return f"{name(place, file)} emptied"


def delete_file(place: Place, rng: Random) -> str:
    file = one_file(place, rng)
    file.unlink()
    return f"{name(place, file)} deleted"


def delete_folder(place: Place, rng: Random) -> str:
    folder = rng.choice(folders_of(place.part) or [place.part])
    shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    return f"{name(place, folder)} deleted with its content"


def exchange(place: Place, rng: Random) -> str:
    """Exchanges two files, of equal size if there are any, because sizes are checked first."""
    files = files_of(place.part)
    if len(files) < 2:
        raise Unfit
    sizes = [file.stat().st_size for file in files]
    equal = [
        (a, b)
        for i, a in enumerate(files)
        for j, b in enumerate(files[:i])
        if sizes[i] == sizes[j] and a.read_bytes() != b.read_bytes()
    ]
    first, second = rng.choice(equal) if equal and rng.random() < 0.7 else rng.sample(files, 2)
    swap(first, second)
    return f"{name(place, first)} and {name(place, second)} exchanged"


def swap(first: Path, second: Path) -> None:
    """Exchanges two files or folders."""
    between = first.with_name(f"{first.name}.between")
    first.rename(between)
    second.rename(first)
    between.rename(second)


def folder_for_file(place: Place, rng: Random) -> str:
    file = one_file(place, rng)
    file.unlink()
    file.mkdir()
    if rng.random() < 0.5:
        (file / "0").write_bytes(b"0")
    return f"a folder in the place of {name(place, file)}"


def file_for_folder(place: Place, rng: Random) -> str:
    folder = rng.choice(folders_of(place.part) or [place.part])
    shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    folder.write_bytes(rng.choice((b"", b"not a folder")))
    return f"a file in the place of {name(place, folder)}"


def link_to_nothing(place: Place, rng: Random) -> str:
    file = one_file(place, rng)
    file.unlink()
    file.symlink_to(file.with_name("nothing_of_this_name"))
    return f"a link to nothing in the place of {name(place, file)}"


def foreign(place: Place, rng: Random) -> str:
    """Adds files that people, editors and file managers leave behind."""
    folder = rng.choice([place.part, *folders_of(place.part)]) if place.part.is_dir() else place.part.parent
    names = (".DS_Store", "Thumbs.db", "notes.txt", "desktop.ini", "copy", "1", ".nfs0001", "a file", "._x", "tmp~")
    more = folder / rng.choice(names)
    if rng.random() < 0.3:
        more.mkdir(exist_ok=True)
        (more / "0").write_bytes(b"0")
    else:
        more.write_bytes(rng.randbytes(rng.choice((0, 10, 5000))))
    return f"{name(place, more)} added"


def unreadable(place: Place, rng: Random) -> str:
    """chmod 000. Left out for root, who can read everything."""
    if os.geteuid() == 0:
        raise Unfit
    file = rng.choice([one_file(place, rng), *folders_of(place.part)])
    file.chmod(0)
    return f"{name(place, file)} made unreadable"


BYTES = (
    Damage("bits flipped", flip_bits),
    Damage("bytes overwritten", write_bytes),
    Damage("cut off", cut_off),
    Damage("lengthened", lengthen),
    Damage("emptied", empty),
)
WHOLE = (
    Damage("file deleted", delete_file),
    Damage("folder in place of a file", folder_for_file),
    Damage("link to nothing", link_to_nothing),
    *([] if os.geteuid() == 0 else [Damage("unreadable", unreadable)]),
)
FOLDERS = (
    Damage("folder deleted", delete_folder),
    Damage("file in place of a folder", file_for_folder),
    Damage("files exchanged", exchange),
    Damage("foreign files", foreign),
)
