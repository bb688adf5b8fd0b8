"""Prepared data is either intact or refused in one sentence."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.annotation.annotate import annotate
from ernie_vilg_jax.data import manifests
from ernie_vilg_jax.data.files import sealed_json
from ernie_vilg_jax.data.loader import make_loader
from ernie_vilg_jax.data.manifests import read_manifest
from ernie_vilg_jax.data.records import open_split
from ernie_vilg_jax.data.tokenizers import load_tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.prepare import prepare

FIRST, SECOND = "train-00000-of-00003.array_record", "train-00001-of-00003.array_record"


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "copy"))


def flip(path: Path) -> None:
    data = bytearray((path / FIRST).read_bytes())
    data[3000] ^= 1
    (path / FIRST).write_bytes(data)


def pad(path: Path) -> None:
    """Both first shards get one size, also in the manifest, so that sizes no longer distinguish them."""
    manifest = read_manifest(path)
    for entry in manifest["splits"]["train"]["shards"][:2]:
        with (path / entry["file"]).open("ab") as file:
            file.write(bytes(10**6 - entry["bytes"]))
        entry |= {"bytes": 10**6, "sha256": manifests.file_sha256(path / entry["file"])}
    (path / "manifest.json").write_bytes(sealed_json(manifest))


def exchange(path: Path) -> None:
    pad(path)
    (path / FIRST).rename(path / "third")
    (path / SECOND).rename(path / FIRST)
    (path / "third").rename(path / SECOND)


def folder_instead(path: Path) -> None:
    (path / FIRST).unlink()
    (path / FIRST).mkdir()


def edit(change: Callable[[dict[str, Any], dict[str, Any]], Any], seal: bool = False) -> Callable[[Path], None]:
    """Changes the manifest and the entry of its first shard in place; sealed, as if version 0.1 had written it so."""

    def apply(path: Path) -> None:
        manifest = json.loads((path / "manifest.json").read_text())
        if seal:
            del manifest["digest"]
        change(manifest, manifest["splits"]["train"]["shards"][0])
        (path / "manifest.json").write_text(json.dumps(manifest))

    return apply


CHANGED = r"manifest\.json is damaged \(it was changed after it was written.*\): delete .*copy and run the command"
DAMAGES = {
    "flipped bit": (flip, rf"{FIRST} is damaged or another one .*: run `python -m .*prepare` with --output=.*copy"),
    "truncated": (lambda p: os.truncate(p / FIRST, 2000), f"{FIRST} has 2000 bytes where the manifest says"),
    "missing": (lambda p: (p / FIRST).unlink(), f"{FIRST} is missing: run"),
    "exchanged": (exchange, f"{FIRST} is damaged or another one"),
    "a folder": (folder_instead, f"{FIRST} has .* bytes where the manifest says"),
    "count": (edit(lambda m, s: s.update(records=s["records"] - 1)), CHANGED),
    "sha256": (edit(lambda m, s: s.update(sha256="0" * 64)), CHANGED),
    "fingerprint": (edit(lambda m, s: m.update(fingerprint="0" * 64)), CHANGED),
    "source range": (edit(lambda m, s: s["sources"].append(["other", 1])), CHANGED),
    "held out": (edit(lambda m, s: m["held_out"].clear()), CHANGED),
    "deleted key": (edit(lambda m, s: m.pop("splits")), CHANGED),
    "digest": (edit(lambda m, s: m.update(digest=3)), CHANGED),
    "old, count": (edit(lambda m, s: s.update(records=1), seal=True), f"damaged .what it says of {FIRST} does not add"),
    "old, deleted key": (edit(lambda m, s: s.pop("sha256"), seal=True), r"damaged \(it lacks 'sha256'\)"),
    "old, wrong type": (edit(lambda m, s: m.update(splits=[1]), seal=True), r"manifest\.json is damaged"),
    "no JSON": (lambda p: (p / "manifest.json").write_text("{"), r"manifest\.json is damaged"),
    "no object": (lambda p: (p / "manifest.json").write_text("[]"), r"manifest\.json is damaged"),
    "nothing in it": (lambda p: (p / "manifest.json").write_text('{"fingerprint": ""}'), "damaged .it lacks 'schema'"),
    "no text": (lambda p: (p / "manifest.json").write_bytes(b"\xff\xfe{"), r"manifest\.json is damaged"),
    "another schema": (
        edit(lambda m, s: m.update(schema=99)),
        r"schema 99, but ernie_vilg_jax \S+ reads only 1:",
    ),
    "unfinished": (lambda p: (p / "manifest.json").unlink(), "did not finish"),
    "nowhere": (shutil.rmtree, r"python -m ernie_vilg_jax\.prepare"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_data_is_refused_in_one_sentence(copy: Path, damage: Callable[[Path], Any], message: str):
    damage(copy)
    with pytest.raises(UserError, match=message) as refused:
        open_split(copy, "train")
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.array_record", "a/b", "a\\b", "..", ".", "", "a\0b", 3, None])
@pytest.mark.parametrize("read", [lambda p: open_split(p, "train"), lambda p: annotate(str(p), f"{p}-out")])
def test_names_with_paths_elsewhere_are_refused(copy: Path, read: Callable[[Path], Any], name: Any):
    edit(lambda manifest, shard: shard.update(file=name), seal=True)(copy)
    with pytest.raises(UserError, match=r"manifest\.json.* names the file .* not the plain name of a file beside it"):
        read(copy)
    assert not Path(f"{copy}-out").exists()


def test_an_unknown_split_is_named(copy: Path):
    with pytest.raises(UserError, match="no split 'test'"):
        open_split(copy, "test")


def test_data_of_version_0_1_without_digest_is_read(copy: Path, prepared: Path):
    edit(lambda manifest, shard: None, seal=True)(copy)
    assert len(open_split(copy, "train")) == len(open_split(prepared, "train"))


@pytest.mark.parametrize("damage", [flip, lambda path: (path / SECOND).unlink()])
def test_the_remedy_that_is_named_works(copy: Path, prepared: Path, config: ConfigDict, damage: Callable[[Path], None]):
    damage(copy)
    prepare(config, copy)
    assert [r.id for r in map(open_split(copy, "train").__getitem__, range(5))] == [
        r.id for r in map(open_split(prepared, "train").__getitem__, range(5))
    ]


def test_shards_are_hashed_once_and_again_when_they_change(copy: Path, monkeypatch: pytest.MonkeyPatch):
    hashed: list[str] = []

    def count(file: Path) -> str:
        hashed.append(file.name)
        return sha256(file)

    sha256 = manifests.file_sha256
    monkeypatch.setattr(manifests, "file_sha256", count)
    for _ in range(3):
        open_split(copy, "train")
    assert sorted(hashed) == sorted(entry["file"] for entry in read_manifest(copy)["splits"]["train"]["shards"])
    flip(copy)
    with pytest.raises(UserError, match="damaged or another one"):
        open_split(copy, "train")
    assert hashed[3:] == [FIRST]


def test_the_loader_verifies_shards_unless_disabled(copy: Path, config: ConfigDict):
    flip(copy)
    config.data.path = str(copy)
    tokenizer = load_tokenizer(config)
    with pytest.raises(UserError, match="damaged or another one"):
        make_loader(config, tokenizer, batch_size=4, seed=0)
    config.data.verify_shards = False
    make_loader(config, tokenizer, batch_size=4, seed=0)
