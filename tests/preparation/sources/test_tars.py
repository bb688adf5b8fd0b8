"""Tars: the captions of an image, duplicates, and damaged tars."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from ernie_vilg_jax.errors import UserError
from tests.preparation.sources.test_folder import COMPOSED, DECOMPOSED
from tests.preparation.sources.test_own_images import ids, tars, write_tar
from tests.small_data import picture, records_of

COLOURS = ("red", "blue", "green")


@pytest.mark.parametrize("names", [("a/0", "b/0"), ("a/0", "b/0", "b/1"), ("0", "b/0"), ("a/x/0", "b/x/0")])
def test_tars_of_one_name_keep_their_captions(names: tuple[str, ...], tmp_path: Path):
    for name, colour in zip(names, COLOURS, strict=False):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_tar(tmp_path / f"{name}.tar", {"1.png": picture(colour), "1.txt": colour})
    source = tars(tmp_path / "**" / "*.tar")
    found = {record.captions["en"][0]: record for record in records_of(source)}
    assert len({record.id for record in found.values()}) == len(found) == len(names)
    for colour in COLOURS[: len(names)]:
        assert found[colour].image == picture(colour)
    fingerprint = source.fingerprint()
    first, second = (tmp_path / f"{name}.tar" for name in names[:2])
    shutil.move(first, tmp_path / "x")
    shutil.move(second, first)
    shutil.move(tmp_path / "x", second)
    assert tars(tmp_path / "**" / "*.tar").fingerprint() != fingerprint


def test_the_fingerprint_follows_the_ids(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_tar(tmp_path / name / "0.tar", {"1.png": picture(), "1.txt": name})
    before = tars(tmp_path / "*" / "*.tar")
    assert ids(before) == ["tars/a/0/1", "tars/b/0/1"]
    fingerprint = before.fingerprint()
    (tmp_path / "b").rename(tmp_path / "c")
    after = tars(tmp_path / "*" / "*.tar")
    assert ids(after) == ["tars/a/0/1", "tars/c/0/1"] and after.fingerprint() != fingerprint


def test_tars_of_different_names_keep_their_ids_wherever_they_lie(tmp_path: Path):
    for name in ("a/0", "b/1"):
        (tmp_path / name).parent.mkdir()
        write_tar(tmp_path / f"{name}.tar", {"1.png": picture(), "1.txt": name})
    assert ids(tars(tmp_path / "*" / "*.tar")) == ["tars/0/1", "tars/1/1"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1.png", "1.txt", "1.png"], "'1.png' and '1.png' are the same file of one example"),
        (["1.png", "1.txt", "./1.txt"], "'1.txt' and './1.txt' are the same file"),
        (["1.png", "1.txt", "1.PNG"], "'1.png' and '1.PNG' are the same file"),
        (["1.png", "1.txt", "1.jpg"], "'1.png' and '1.jpg' are images of one example"),
        (["1.left.png", "1.right.png", "1.txt"], "'1.left.png' and '1.right.png' are images of one example"),
        ([f"{COMPOSED}.png", f"{COMPOSED}.txt", f"{DECOMPOSED}.txt"], "are the same file"),
    ],
)
def test_duplicates_are_an_error(names: list[str], message: str, tmp_path: Path):
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name in names:
            path = tmp_path / name
            path.write_bytes(picture() if name.lower().endswith(("g", "G")) else b"a")
            tar.add(path, name if not name.startswith("./") else f"./{path.name}")
    with pytest.raises(UserError, match=rf"s\.tar: .*{message}"):
        records_of(tars(tmp_path / "s.tar"))


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("other", ["1.depth.png", "1.mask.jpg", "1.a.b.webp"])
def test_an_image_takes_precedence_over_those_with_more_extensions(order: int, other: str, tmp_path: Path):
    files = {"1.jpg": picture("red", kind="JPEG"), other: picture("blue"), "1.txt": "a"}
    write_tar(tmp_path / "s.tar", dict(list(files.items())[::order]))
    (record,) = records_of(tars(tmp_path / "s.tar"))
    assert record.image == files["1.jpg"]
    write_tar(tmp_path / "s.tar", {other: files[other], "1.txt": "a"})
    (record,) = records_of(tars(tmp_path / "s.tar"))
    assert record.image == files[other]


def test_the_same_caption_in_two_files_counts_once(tmp_path: Path):
    more = {
        "1.json": json.dumps({"caption": "a cat", "zh": ["猫", "猫"]}),
        "1.txt": "a cat\na dog",
        "1.zh.txt": "猫\n狗",
    }
    write_tar(tmp_path / "s.tar", {"1.png": picture(), **more, "1.caption": "a dog\na cow"})
    (record,) = records_of(tars(tmp_path / "s.tar"))
    assert record.captions == {"zh": ["猫", "猫", "狗"], "en": ["a cat", "a dog", "a cow"]}


@pytest.mark.parametrize(("image", "text"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_names_spelt_otherwise_are_one_example(image: str, text: str, tmp_path: Path):
    write_tar(tmp_path / "s.tar", {f"{image}.png": picture(), f"{text}.txt": "a", "._1.png": b"\0", "d/._1.txt": b"\0"})
    (record,) = records_of(tars(tmp_path / "s.tar"))
    assert record.id == f"tars/s/{image}" and record.captions == {"en": ["a"]}


def whole() -> dict[str, bytes | str]:
    return {
        f"{n}.{kind}": picture(COLOURS[n]) if kind == "png" else COLOURS[n] for n in range(3) for kind in ("png", "txt")
    }


def test_every_cut_of_a_tar_is_noticed(tmp_path: Path):
    write_tar(tmp_path / "s.tar", whole())
    data = (tmp_path / "s.tar").read_bytes()
    with tarfile.open(tmp_path / "s.tar") as tar:
        members = tar.getmembers()
        end = members[-1].offset_data + 512
    assert not any(data[end:])
    for cut in sorted(
        {*range(0, end + 512, 128), *(m.offset + d for m in members for d in (-1, 0, 1, 511, 513))} - {-1}
    ):
        (tmp_path / "s.tar").write_bytes(data[:cut])
        with pytest.raises(UserError, match="not a whole, uncompressed tar"):
            records_of(tars(tmp_path / "s.tar"))
    (tmp_path / "s.tar").write_bytes(data[: end + 512])  # one of its two final blocks
    assert len(ids(tars(tmp_path / "s.tar"))) == 3


def test_a_damaged_header_does_not_end_a_tar(tmp_path: Path):
    write_tar(tmp_path / "s.tar", whole())
    data = bytearray((tmp_path / "s.tar").read_bytes())
    with tarfile.open(tmp_path / "s.tar") as tar:
        offset = tar.getmembers()[4].offset
    data[offset + 150] ^= 1  # its checksum
    (tmp_path / "s.tar").write_bytes(data)
    with pytest.raises(UserError, match="not a whole, uncompressed tar"):
        records_of(tars(tmp_path / "s.tar"))


def test_joined_tars_are_named(tmp_path: Path):
    for n in (0, 1):
        write_tar(tmp_path / f"{n}.tar", {f"{n}.png": picture(), f"{n}.txt": "a"})
    joined = b"".join((tmp_path / f"{n}.tar").read_bytes() for n in (0, 1))
    (tmp_path / "both.tar").write_bytes(joined)
    with pytest.raises(UserError, match=r"both\.tar goes on after its end mark, as tars do that were joined with cat"):
        records_of(tars(tmp_path / "both.tar"))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_in_every_format(format: int, tmp_path: Path):
    name = "/".join(["x" * 60, "猫" * 10, "y" * 60])
    with tarfile.open(tmp_path / "s.tar", "w", format=format) as tar:
        for suffix, content in (("png", picture()), ("txt", b"a")):
            (tmp_path / "file").write_bytes(content)
            tar.add(tmp_path / "file", f"{name}.{suffix}")
    (record,) = records_of(tars(tmp_path / "s.tar"))
    assert record.id == f"tars/s/{name}"


def test_paths_with_brackets_folders_and_ranges(tmp_path: Path):
    place = tmp_path / "[x] a*"
    place.mkdir()
    for n in (8, 9, 10, 11):
        write_tar(place / f"s-{n:03d}.tar", {"1.png": picture(), "1.txt": f"number {n}"})
    (place / "._s-008.tar").write_bytes(b"\0")
    assert ids(tars(place / "s-008.tar")) == ["tars/s-008/1"]
    assert len(ids(tars(place))) == 4
    plain = tmp_path / "plain"
    place.rename(plain)
    assert ids(tars(plain / "s-{008..010}.tar")) == ["tars/s-008/1", "tars/s-009/1", "tars/s-010/1"]
    assert len(ids(tars(plain / "s-0[01]*.tar"))) == 4


def test_a_name_that_is_not_utf8_is_named(tmp_path: Path):
    write_tar(tmp_path / "s.tar", {"\udcc3.png": picture(), "\udcc3.txt": "a"})
    with pytest.raises(UserError, match=r"s\.tar: the name .*udcc3.* is not UTF-8"):
        records_of(tars(tmp_path / "s.tar"))


def test_unsupported_images_are_reported(tmp_path: Path):
    write_tar(tmp_path / "s.tar", {"1.gif": b"GIF89a", "1.txt": "a", "2.txt": "b", "3.png": picture(), "3.txt": "c"})
    message = r"1 captions without an image \(s/2\); 1 images that are not PNG, JPEG or WebP .* \(s/1\.gif\)"
    with pytest.raises(UserError, match=message):
        records_of(tars(tmp_path / "s.tar"))


@pytest.mark.parametrize("content", [b"\xc3\xa8\xb0\xa1", b"a\0"])
@pytest.mark.parametrize("kind", ["txt", "zh.txt", "json", "caption"])
def test_invalid_text_is_named(content: bytes, kind: str, tmp_path: Path):
    write_tar(tmp_path / "s.tar", {"1.png": picture(), f"1.{kind}": content})
    with pytest.raises(UserError, match=rf"1\.{kind} in .*s\.tar.*(UTF-8|NUL)"):
        records_of(tars(tmp_path / "s.tar"))
