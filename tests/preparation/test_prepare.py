import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.data.files import sealed_json
from ernie_vilg_jax.data.manifests import check_shards, read_manifest
from ernie_vilg_jax.data.records import open_split
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation import splits
from ernie_vilg_jax.preparation.prepare import prepare
from ernie_vilg_jax.preparation.sources import Key, scenes
from tests.disks import Disk, as_nobody
from tests.small_data import make_config, picture


def contents(path: Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def test_two_runs_write_the_same_bytes(prepared: Path, config: ConfigDict, tmp_path: Path):
    prepare(config, tmp_path)
    assert contents(tmp_path) == contents(prepared)


def test_the_manifest_counts_the_records(prepared: Path):
    manifest = read_manifest(prepared)
    for split in ("train", "holdout"):
        source = open_split(prepared, split)
        records = [source[index] for index in range(len(source))]
        stated = manifest["splits"][split]
        assert stated["records"] == stated["by_source"]["scenes"] == len(records) > 0
        assert stated["captions"] == {
            language: sum(len(record.captions[language]) for record in records) for language in ("zh", "en")
        }
        check_shards(prepared, split)
    assert manifest["sources"][0]["licences"][0]["licence"] == "Apache-2.0"
    assert "Apache-2.0" in (prepared / "LICENCES.md").read_text()
    assert not (prepared / ".progress").exists()


def test_a_held_out_concept_is_never_seen_in_training(prepared: Path):
    held = set(read_manifest(prepared)["held_out"])
    seen: dict[str, set[str]] = {}
    for split in ("train", "holdout"):
        source = open_split(prepared, split)
        seen[split] = {unit for i in range(len(source)) for unit in splits.units(source[i].concept)}
    assert held and not held & seen["train"]
    assert held & seen["holdout"]


def test_every_record_is_in_one_shard(prepared: Path):
    sources = [open_split(prepared, split) for split in ("train", "holdout")]
    ids = [source[index].id for source in sources for index in range(len(source))]
    assert sorted(ids) == [f"scenes/0-{n:07d}" for n in range(100)]


def test_the_split_of_a_unit_does_not_change_when_others_are_added():
    few = splits.held_out_units([[f"c{n}" for n in range(50)]], 0.2)
    many = splits.held_out_units([[f"c{n}" for n in range(100)]], 0.2)
    assert few == many & {f"c{n}" for n in range(50)}
    assert 5 < len(many) < 40


def test_a_small_source_still_holds_one_concept_out_and_fraction_zero_none():
    assert len(splits.held_out_units([["a", "b", "c"]], 0.001)) == 1
    assert splits.held_out_units([["a"]], 0.001) == set()
    assert splits.held_out_units([["a", "b"]], 0.0) == set()


def test_a_joint_concept_is_held_out_with_any_of_its_units():
    class Toy:
        name = "toy"

        def keys(self) -> list[Key]:
            return [Key("1", "a"), Key("2", "b"), Key("3", "a+b"), Key("4", "c")]

    plan, held = splits.plan_shards([Toy()], 0.01, 1)  # type: ignore[list-item]
    out = {slot.id for name, slots in plan.items() if name.startswith("holdout") for slot in slots}
    assert len(held) == 1
    assert out == {"a": {"1", "3"}, "b": {"2", "3"}, "c": {"4"}}[next(iter(held))]


class Stop(Exception):
    pass


class Alike:
    """Records of one concept."""

    name = "toy"

    def __init__(self, count: int, concept: str = "toy/one caption") -> None:
        self._count, self._concept = count, concept

    def keys(self) -> list[Key]:
        return [Key(str(number), self._concept) for number in range(self._count)]


@pytest.mark.parametrize(
    ("count", "fraction", "out"), [(40, 0.1, range(1, 12)), (2, 0.9, [1]), (3, 1e-9, [1]), (9, 0.0, [0])]
)
@pytest.mark.parametrize("concept", ["toy/one caption", "a+b", "held out by its hash 3"])
def test_of_records_of_one_concept_single_ones_are_held_out(
    count: int, fraction: float, out: Sequence[int], concept: str, caplog: pytest.LogCaptureFixture
):
    plan, held = splits.plan_shards([Alike(count, concept)], fraction, 2)  # type: ignore[list-item]
    sizes = {
        split: sum(len(slots) for name, slots in plan.items() if name.startswith(split)) for split in ("train", "hold")
    }
    assert sizes["hold"] in out and sizes["train"] == count - sizes["hold"] and not held
    assert ("cannot be split by concept" in caplog.text) == (fraction > 0)
    again = splits.plan_shards([Alike(count, concept)], fraction, 2)  # type: ignore[list-item]
    assert again[0] == plan


def test_a_single_record_is_reported(caplog: pytest.LogCaptureFixture):
    splits.plan_shards([Alike(1)], 0.1, 2)  # type: ignore[list-item]
    assert "there is one record, so none is held out" in caplog.text


def test_a_vocabulary_without_the_words_of_the_captions_is_logged(
    config: ConfigDict, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] " + " ".join("abcdefghijklmnopqrstuvwxyz")
    words = " ".join([words, *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")])
    (tmp_path / "vocab.txt").write_text(words.replace(" ", "\n"))
    config.tokenizer.update(kind="bert", path=str(tmp_path), vocab_size=57)
    prepare(config, tmp_path / "out")
    assert "does not know" in caplog.text and str(tmp_path) in caplog.text
    caplog.clear()
    prepare(make_config(), tmp_path / "trained")
    config.tokenizer.update(kind="sentencepiece", path=str(tmp_path / "trained/tokenizer"), vocab_size=400)
    prepare(config, tmp_path / "again")
    assert "does not know" not in caplog.text


@pytest.mark.parametrize("kind", ["bert", "sentencepiece"])
def test_a_wrong_tokenizer_is_reported_before_anything_is_written(kind: str, config: ConfigDict, tmp_path: Path):
    config.tokenizer.update(kind=kind, path=str(tmp_path))
    (tmp_path / "vocab.txt").write_text("a\n")
    with pytest.raises(UserError, match=r"lacks \[PAD\]|no tokenizer in"):
        prepare(config, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_an_interrupted_run_resumes_to_the_same_bytes(
    prepared: Path, config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
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
    assert len(made) - before < 100  # at least one shard was kept
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
    while not list((tmp_path / "killed").glob(".progress/*.json")) and time.monotonic() < deadline:
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


def test_an_output_that_cannot_be_a_folder_is_named(config: ConfigDict, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made a folder"):
        prepare(config, tmp_path / "file")


def test_other_settings_replace_all_shards(config: ConfigDict, tmp_path: Path):
    prepare(config, tmp_path)
    config.data.num_shards = 2
    config.data.sources[0].count = 40
    manifest = prepare(config, tmp_path)
    names = {file.name for file in tmp_path.glob("*.array_record")}
    assert names == {entry["file"] for split in manifest["splits"].values() for entry in split["shards"]}
    assert sum(split["records"] for split in manifest["splits"].values()) == 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": ()}, "sources is empty"),
        ({"num_shards": 0}, "num_shards=0"),
        ({"holdout_fraction": 1.0}, "holdout_fraction=1.0"),
        ({"sources": (ConfigDict({"name": "emojis"}),)}, "names 'emojis': choose one of"),
        ({"sources": (ConfigDict({"name": "scenes", "cuont": 3}),)}, "no option 'cuont'"),
        ({"sources": (ConfigDict({"name": "scenes", "count": 0}),)}, "count=0"),
        ({"sources": (ConfigDict({"name": "scenes", "objects": "cars"}),)}, "'shapes' or 'emoji'"),
        ({"sources": (ConfigDict({"name": "scenes"}), ConfigDict({"name": "scenes", "seed": 1}))}, "'scenes' 2 times"),
    ],
)
def test_mistakes_in_the_config_are_one_sentence(change: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        prepare(make_config(**change), tmp_path)


def test_the_manifest_is_readable_json_with_licences_of_every_source(prepared: Path):
    manifest = json.loads((prepared / "manifest.json").read_text())
    assert [source["name"] for source in manifest["sources"]] == ["scenes"]
    assert manifest["settings"]["sources"][0]["count"] == 100
    assert len(manifest["fingerprint"]) == 64


def test_a_full_disk_keeps_finished_shards_and_the_same_command_resumes(
    prepared: Path, config: ConfigDict, disk: Callable[[int], Disk]
):
    whole = sum(file.stat().st_size for file in prepared.rglob("*") if file.is_file())
    small = disk(5 * (prepared / "train-00000-of-00003.array_record").stat().st_size // 1024 // 2)
    output = small.path / "out"
    for _ in range(2):
        with pytest.raises(UserError, match=r"out/train-\d+-of-00003\.array_record: no space left on device; free"):
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


def obstruct(path: Path) -> None:
    """A file in place of a folder, or a folder in place of a file."""
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("")
    else:
        path.unlink(missing_ok=True)
        (path / "in the way").mkdir(parents=True)


@pytest.mark.parametrize(
    "name",
    ["manifest.json", "train-00001-of-00003.array_record", "LICENCES.md", "preview.png", "tokenizer", ".progress",
     "tokenizer/tokenizer.json", "tokenizer/sentencepiece.model"],
)  # fmt: skip
def test_obstructing_files_are_named_and_kept(prepared: Path, config: ConfigDict, tmp_path: Path, name: str):
    output = tmp_path / "out"
    shutil.copytree(prepared, output)
    (output / ".progress").mkdir()
    (output / "manifest.json").unlink()
    obstruct(output / name)
    with pytest.raises(UserError, match=rf"{name}: (is a directory|file exists|not a directory); .* belongs"):
        prepare(config, output)
    shutil.rmtree(output / name) if (output / name).is_dir() else (output / name).unlink()
    prepare(config, output)
    assert contents(output) == contents(prepared)


def test_files_without_rights_are_named(prepared: Path, config: ConfigDict, open_folder: Path):
    shutil.copytree(prepared, open_folder / "out")
    (open_folder / "out").chmod(0o755)
    (open_folder / "pictures").mkdir()
    (open_folder / "pictures").chmod(0o777)
    (open_folder / "pictures/1.png").write_bytes(picture())
    (open_folder / "pictures/1.txt").write_text("a picture")
    (open_folder / "pictures/1.png").chmod(0)
    with as_nobody():
        (open_folder / "pictures/sub").mkdir()
    own = make_config(sources=(ConfigDict({"name": "folder", "path": str(open_folder / "pictures")}),))
    with as_nobody():
        with pytest.raises(UserError, match=r"pictures/1\.png: permission denied; give this user the right to it"):
            prepare(own, open_folder / "own")
        (open_folder / "pictures/sub").chmod(0)
        with pytest.raises(UserError, match=r"pictures/sub: permission denied; give this user the right to it"):
            prepare(own, open_folder / "own")
        (open_folder / "pictures/sub").chmod(0o700)
        with pytest.raises(UserError, match=r"--output=.*closed cannot be made a folder \(Permission denied\)"):
            prepare(config, open_folder / "out/closed")
        config.data.num_shards = 2
        with pytest.raises(UserError, match=r"out/.*: permission denied; give this user the right to it"):
            prepare(config, open_folder / "out")
    assert contents(open_folder / "out") == contents(prepared)


NOTES = {
    "cut": lambda note: b"{",
    "no object": lambda note: b"[]",
    "count": lambda note: note.replace(b'"records": ', b'"records": 1'),
    "of another shard": lambda note: note.replace(b"train-00001-", b"train-00000-"),
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
