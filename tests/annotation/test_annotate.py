"""A whole run: its output, the shards it keeps from an earlier run, its errors."""

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.annotation import annotate as annotation
from ernie_vilg_jax.annotation import shard as annotation_shard
from ernie_vilg_jax.annotation.annotate import Settings, annotate
from ernie_vilg_jax.data.files import file_sha256, sealed_json
from ernie_vilg_jax.data.loader import make_loader
from ernie_vilg_jax.data.manifests import check_shards, read_manifest
from ernie_vilg_jax.data.records import open_split
from ernie_vilg_jax.data.tokenizers import load_tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.prepare import prepare
from tests.annotation.shards import SHARD, all_records
from tests.preparation.folders import Stop, contents


def test_records_keep_their_place_and_gain_words_and_mentions(prepared: Path, annotated: Path):
    before, after = all_records(prepared), all_records(annotated)
    for old, new in zip(before, after, strict=True):
        assert dataclasses.replace(new, parsed={}) == old
        assert new.parsed.keys() == old.captions.keys()
        for language, captions in old.captions.items():
            for caption, entry in zip(captions, new.parsed[language], strict=True):
                words = [caption[start:end] for start, end, _ in entry["words"]]
                assert words and all(words), caption
                assert set(entry["mentions"]) <= set(range(len(new.objects)))
    assert any(entry["mentions"] for record in after for entry in record.parsed["en"])


def test_the_manifest_is_the_inputs_with_new_shards_and_counts(prepared: Path, annotated: Path):
    before, after = read_manifest(prepared), read_manifest(annotated)
    assert after["fingerprint"] != before["fingerprint"]
    for name in ("schema", "settings", "sources", "own_data", "held_out", "tokenizer"):
        assert after[name] == before[name]
    for split in ("train", "holdout"):
        for name in ("records", "by_source", "captions"):
            assert after["splits"][split][name] == before["splits"][split][name]
        check_shards(annotated, split)
    records = all_records(annotated)
    words = Counter(
        f"words.{language}.{pos}"
        for record in records
        for language, entries in record.parsed.items()
        for entry in entries
        for _, _, pos in entry["words"]
    )
    counts = after["annotation"]["counts"]
    assert {name: count for name, count in counts.items() if name.startswith("words.")} == words
    assert counts["records"] == len(records) == after["annotation"]["read"]
    assert counts["objects"] == sum(len(record.objects) for record in records)
    assert after["annotation"]["rejected"] == 0
    assert after["annotation"]["settings"]["detector_options"] == {}
    for name in ("LICENCES.md", "preview.png"):
        assert (annotated / name).read_bytes() == (prepared / name).read_bytes()
    assert not (annotated / ".progress").exists()


def test_the_loader_reads_annotated_records(annotated: Path, config: ConfigDict):
    config.data.path = str(annotated)
    batch = next(iter(make_loader(config, load_tokenizer(config), batch_size=4, seed=0)))
    assert batch["image"].shape == (4, 16, 16, 3)


def test_an_interrupted_run_resumes_to_the_same_bytes(
    prepared: Path, annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made: list[str] = []
    original = annotation_shard.annotate_shard

    def count(job: Any, name: str, *rest: Any) -> Any:
        if len(made) == 2:
            raise Stop
        made.append(name)
        return original(job, name, *rest)

    monkeypatch.setattr(annotation_shard, "annotate_shard", count)
    with pytest.raises(Stop):
        annotate(str(prepared), str(tmp_path))
    with pytest.raises(UserError, match="did not finish"):
        open_split(tmp_path, "train")
    (tmp_path / ".progress" / "work" / "of a killed worker").mkdir()
    monkeypatch.setattr(annotation_shard, "annotate_shard", original)
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in made}
    annotate(str(prepared), str(tmp_path))
    assert contents(tmp_path) == contents(annotated)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in made} == times


def test_a_finished_directory_is_left_alone(prepared: Path, annotated: Path, tmp_path: Path):
    shutil.copytree(annotated, tmp_path / "out")
    (tmp_path / "out" / ".progress").mkdir()  # a kill after the manifest leaves it
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*")}
    del times[tmp_path / "out" / ".progress"]
    assert annotate(str(prepared), str(tmp_path / "out")) == read_manifest(annotated)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*")} == times


def test_other_settings_make_all_shards_again(
    prepared: Path, annotated: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    shutil.copytree(annotated, tmp_path / "out")
    manifest = annotate(str(prepared), str(tmp_path / "out"), Settings(tagger="zh"))
    assert "all its shards are made again" in caplog.text
    annotate(str(prepared), str(tmp_path / "other"), Settings(tagger="zh"))
    assert contents(tmp_path / "out") == contents(tmp_path / "other")
    assert manifest["fingerprint"] != read_manifest(annotated)["fingerprint"]


def test_a_damaged_shard_of_the_output_alone_is_made_again(prepared: Path, annotated: Path, tmp_path: Path):
    shutil.copytree(annotated, tmp_path / "out")
    shard, other = tmp_path / "out" / SHARD, tmp_path / "out" / "train-00000-of-00003.array_record"
    shard.write_bytes(b"x" * shard.stat().st_size)
    modified = other.stat().st_mtime_ns
    annotate(str(prepared), str(tmp_path / "out"))
    assert contents(tmp_path / "out") == contents(annotated)
    assert other.stat().st_mtime_ns == modified


@pytest.mark.parametrize("size", ["same", "other"])
def test_a_damaged_shard_of_the_input_is_named(prepared: Path, tmp_path: Path, size: str):
    shutil.copytree(prepared, tmp_path / "in")
    shard = tmp_path / "in" / SHARD
    shard.write_bytes(b"x" * (shard.stat().st_size + (size == "other")))
    with pytest.raises(UserError, match=f"shard {SHARD} of --input=.* is missing or damaged"):
        annotate(str(tmp_path / "in"), str(tmp_path / "out"))


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda file: file.write_bytes(b""), lambda file: file.write_bytes(file.read_bytes()[::-1])]
)
@pytest.mark.parametrize("name", ["tokenizer.json", "sentencepiece.model"])
def test_a_damaged_tokenizer_of_the_input_is_named(
    prepared: Path, tmp_path: Path, name: str, damage: Callable[[Path], Any]
):
    shutil.copytree(prepared, tmp_path / "in")
    damage(tmp_path / "in/tokenizer" / name)
    with pytest.raises(UserError, match=r"the tokenizer of --input=.*in is missing, damaged or another one: give"):
        annotate(str(tmp_path / "in"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"tagger": "fr"}, {}, "--tagger=fr must be one of zh, en, both"),
        ({"detector": "yolo"}, {}, "--detector=yolo must be one of records, "),
        ({"captioner": "ofa"}, {}, "--captioner=ofa must be one of "),
        ({"translator": "x"}, {}, "--translator=x must be one of "),
        ({"detector_options": "{'model': 1}"}, {}, "--detector_options=.* is no JSON"),
        ({"captioner_options": "[1]"}, {}, "--captioner_options=.* must be a JSON object"),
        ({"detector": "boxes"}, {}, "detector 'boxes' needs the option"),
        ({}, {"workers": 0}, "--workers=0 must be at least 1"),
        ({}, {"beam": "--runner='x"}, "--beam=.* is not understood"),
        ({}, {"beam": "--runner=NoRunner"}, "--beam=.* is not understood"),
    ],
)
def test_mistakes_are_one_sentence(
    prepared: Path, tmp_path: Path, settings: dict[str, Any], options: dict[str, Any], message: str
):
    with pytest.raises(UserError, match=message):
        annotate(str(prepared), str(tmp_path), Settings(**settings), **options)


def test_invalid_folders_are_refused(prepared: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"--output=.* is --input or lies inside it"):
        annotate(str(prepared), str(prepared))
    with pytest.raises(UserError, match=r"--output=.* is --input or lies inside it"):
        annotate(str(prepared), str(prepared / "sub" / ".." / "annotated"))
    with pytest.raises(UserError, match=r"holds no manifest.json: give a folder that"):
        annotate(str(tmp_path / "none"), str(tmp_path / "out"))
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(UserError, match=r"manifest.json of --input=.* is damaged"):
        annotate(str(tmp_path), str(tmp_path.parent / "elsewhere"))
    shutil.copytree(prepared, tmp_path / "other")
    before = contents(tmp_path / "other")
    with pytest.raises(UserError, match="holds records that are not annotated ones"):
        annotate(str(prepared), str(tmp_path / "other"))
    assert contents(tmp_path / "other") == before


def test_prepare_does_not_overwrite_annotated_records(annotated: Path, config: ConfigDict):
    with pytest.raises(UserError, match="holds annotated records"):
        prepare(config, annotated)


def edited(note: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({**note, **changes}).encode()


POISON = {
    "cut": lambda note, victim: b"{",
    "no object": lambda note, victim: b"[]",
    "count": lambda note, victim: edited(note, counts={**note["counts"], "records": 1}),
    "entry elsewhere": lambda note, victim: sealed_json({**note, "entry": {**note["entry"], "file": victim}}),
    "rejected elsewhere": lambda note, victim: sealed_json(
        {**note, "rejected_file": {"file": victim, "bytes": 4, "sha256": file_sha256(Path(victim))}}
    ),
    "no digest": lambda note, victim: edited({k: v for k, v in note.items() if k != "digest"}),
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
def test_a_shard_with_a_changed_note_is_made_again_and_no_other_file_is_touched(
    prepared: Path, annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poison: Callable[..., bytes]
):
    def stop(*arguments: Any) -> None:
        raise Stop

    output, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(annotation, "_copy_companions", stop)
        with pytest.raises(Stop):
            annotate(str(prepared), str(output))
    times = {file: file.stat().st_mtime_ns for file in output.glob("*.array_record")}
    note = output / ".progress" / f"{SHARD}.json"
    note.write_bytes(poison(json.loads(note.read_text()), str(victim)))
    annotate(str(prepared), str(output))
    assert contents(output) == contents(annotated) and victim.read_text() == "mine"
    assert [file.name for file in times if file.stat().st_mtime_ns != times[file]] == [SHARD]


@pytest.mark.parametrize("text", [b"{", b"[1]", b'{"position": 1}', b"\xff"])
@pytest.mark.usefixtures("fakes")
def test_damaged_rows_of_records_set_aside_make_their_shards_again(spoiled: Path, tmp_path: Path, text: bytes):
    output = tmp_path / "out"
    annotate(str(spoiled), str(output), Settings(detector="fake"))
    before = contents(output)
    (output / "rejected.jsonl").write_bytes(text)
    annotate(str(spoiled), str(output), Settings(detector="fake"))
    assert contents(output) == before


def test_a_changed_manifest_of_the_output_is_refused_and_all_is_left_there(
    prepared: Path, annotated: Path, tmp_path: Path
):
    output = tmp_path / "out"
    shutil.copytree(annotated, output)
    for change in ({"fingerprint": "0"}, {"annotation": {}}, {"splits": []}):
        manifest = json.loads((annotated / "manifest.json").read_text())
        (output / "manifest.json").write_text(json.dumps(manifest | change))
        before = contents(output)
        with pytest.raises(
            UserError, match=r"manifest.json of --output=.*out is damaged .*: choose another folder, or"
        ):
            annotate(str(prepared), str(output))
        assert contents(output) == before
