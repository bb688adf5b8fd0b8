"""Preparation that runs again: after a kill, damage, a full disk or other settings."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.data.files import sealed_json
from ernie_vilg_jax.data.manifests import read_manifest
from ernie_vilg_jax.data.records import open_split
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation import sources
from ernie_vilg_jax.preparation.prepare import prepare
from ernie_vilg_jax.preparation.sources import scenes
from tests.disks import Disk
from tests.preparation.folders import Stop, contents
from tests.small_data import make_config


def test_an_interrupted_run_resumes_to_the_same_bytes(
    prepared: Path, config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sources, "PART", 16)
    made: list[str] = []
    original = scenes.SceneSource.record

    def count(self: Any, index: int) -> Any:
        made.append(str(index))
        if len(made) == 70:
            raise Stop
        return original(self, index)

    monkeypatch.setattr(scenes.SceneSource, "record", count)
    with pytest.raises(Stop):
        prepare(config, tmp_path)
    assert not (tmp_path / "manifest.json").exists()
    with pytest.raises(UserError, match="did not finish"):
        open_split(tmp_path, "train")
    before = len(made)
    prepare(config, tmp_path)
    assert len(made) - before < 100  # finished parts were kept
    assert contents(tmp_path) == contents(prepared)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_process_resumes_to_the_same_bytes(tmp_path: Path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tests.small_data import make_config\n"
        "from ml_collections import ConfigDict\n"
        "from ernie_vilg_jax.preparation.prepare import prepare\n"
        "prepare(make_config(sources=(ConfigDict({'name': 'scenes', 'count': 900}),)), sys.argv[2])\n"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parents[2])]
    process = subprocess.Popen([*command, str(tmp_path / "killed")])
    deadline = time.monotonic() + 300
    while not list((tmp_path / "killed").glob(".progress/parts/*.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    config = make_config(sources=(ConfigDict({"name": "scenes", "count": 900}),))
    prepare(config, tmp_path / "killed")
    prepare(config, tmp_path / "whole")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_damaged_shard_alone_is_made_again(prepared: Path, config: ConfigDict, tmp_path: Path):
    prepare(config, tmp_path)
    shard = tmp_path / "train-00001-of-00003.array_record"
    shard.write_bytes(b"x" * shard.stat().st_size)
    other = tmp_path / "train-00000-of-00003.array_record"
    modified = other.stat().st_mtime_ns
    prepare(config, tmp_path)
    assert contents(tmp_path) == contents(prepared)
    assert other.stat().st_mtime_ns == modified


def test_a_finished_directory_is_left_alone(config: ConfigDict, tmp_path: Path):
    manifest = prepare(config, tmp_path)
    times = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    assert prepare(config, tmp_path) == manifest
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == times


def test_another_tokenizer_leaves_the_shards(config: ConfigDict, tmp_path: Path):
    before = prepare(config, tmp_path)
    config.tokenizer.vocab_size = 360
    after = prepare(config, tmp_path)
    assert after["tokenizer"] != before["tokenizer"] and after["tokenizer"]["vocab_size"] <= 360
    assert after["splits"] == before["splits"]


def test_other_settings_replace_all_shards(config: ConfigDict, tmp_path: Path):
    prepare(config, tmp_path)
    config.data.num_shards = 2
    config.data.sources[0].count = 40
    manifest = prepare(config, tmp_path)
    names = {file.name for file in tmp_path.glob("*.array_record")}
    assert names == {entry["file"] for split in manifest["splits"].values() for entry in split["shards"]}
    assert sum(split["records"] for split in manifest["splits"].values()) == 40


def test_a_full_disk_keeps_finished_shards_and_the_same_command_resumes(
    prepared: Path, config: ConfigDict, disk: Callable[[int], Disk]
):
    whole = sum(file.stat().st_size for file in prepared.rglob("*") if file.is_file())
    # The records in parts, one shard, and not the work on a second.
    small = disk(11 * (prepared / "train-00000-of-00003.array_record").stat().st_size // 1024 // 2)
    output = small.path / "out"
    for _ in range(2):
        with pytest.raises(UserError, match=r"out/\.progress/.*: no space left on device; free"):
            prepare(config, output)
    finished = {file: file.stat().st_mtime_ns for file in output.glob("*.array_record")}
    assert finished and not list(output.glob("**/*.partial"))
    small.resize(1024 + 2 * whole // 1024)
    prepare(config, output)
    assert contents(output) == contents(prepared)
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    small.make_read_only()
    assert prepare(config, output) == read_manifest(prepared), "a finished folder may be read-only"
    config.data.num_shards = 2
    with pytest.raises(UserError, match=r"out/.*: read-only file system; choose a place that can be written"):
        prepare(config, output)
    assert contents(output) == contents(prepared)
    with pytest.raises(UserError, match=r"--output=.*new cannot be made a folder \(Read-only file system\)"):
        prepare(config, small.path / "new")


NOTES = {
    "cut": lambda note: b"{",
    "no object": lambda note: b"[]",
    "count": lambda note: note.replace(b'"records": ', b'"records": 1'),
    "of another shard": lambda note: note.replace(b"train-00001-", b"train-00000-"),
    "of an earlier version": lambda note: sealed_json(
        {name: value for name, value in json.loads(note).items() if name != "held"}
    ),
    "elsewhere": lambda note: sealed_json({**json.loads(note), "entry": {"file": "../x"}}),
}


@pytest.mark.parametrize("change", NOTES.values(), ids=NOTES)
def test_a_shard_whose_note_was_changed_is_made_again(
    prepared: Path,
    config: ConfigDict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[bytes], bytes],
):
    def stop(*arguments: Any) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr("ernie_vilg_jax.preparation.prepare.prepare_tokenizer", stop)
        with pytest.raises(Stop):
            prepare(config, tmp_path)
    note = tmp_path / ".progress" / "train-00001-of-00003.array_record.json"
    times = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.array_record")}
    note.write_bytes(change(note.read_bytes()))
    prepare(config, tmp_path)
    assert contents(tmp_path) == contents(prepared)
    assert [file.name for file in times if file.stat().st_mtime_ns != times[file]] == [
        "train-00001-of-00003.array_record"
    ]
