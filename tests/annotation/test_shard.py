"""The results of good and bad records of a shard."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from ernie_vilg_jax import tables
from ernie_vilg_jax.annotation import shard as annotation_shard
from ernie_vilg_jax.annotation.annotate import Settings, annotate
from ernie_vilg_jax.data.manifests import read_manifest
from ernie_vilg_jax.data.records import Record, read_shard
from ernie_vilg_jax.errors import UserError
from tests.annotation import annotation_fakes
from tests.annotation.shards import SHARD, all_records, rewrite
from tests.preparation.folders import contents


@pytest.mark.usefixtures("fakes")
def test_bad_records_are_set_aside_and_none_is_lost(spoiled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

    caplog.set_level("INFO", "absl")
    output = tmp_path / "out"
    manifest = annotate(str(spoiled), str(output), Settings(detector="fake"))
    rows = [json.loads(line) for line in (output / "rejected.jsonl").read_text().splitlines()]
    assert [(row["shard"], row["position"]) for row in rows] == [(SHARD, 2), (SHARD, 5), (SHARD, 8)]
    assert rows[0]["id"] == "" and rows[1]["id"].startswith("scenes/")
    for row, reason in zip(rows, ("no record", "image cannot be decoded", "tagger"), strict=True):
        assert reason in row["reason"]
    stated = manifest["annotation"]
    assert stated["read"] == stated["counts"]["records"] + stated["rejected"] == 100
    assert manifest["splits"]["train"]["records"] + manifest["splits"]["holdout"]["records"] == 97
    assert "100 records read = 97 annotated + 3 rejected" in caplog.text and "3 records (3.0%)" in caplog.text
    kept = array_record_module.ArrayRecordReader(str(output / f"rejected-{SHARD}"))
    given = array_record_module.ArrayRecordReader(str(spoiled / SHARD))
    assert kept.read([0, 1, 2]) == given.read([2, 5, 8])
    ids = [record.id for record in read_shard(output / SHARD)]
    assert ids == [Record.unpack(given.read([n])[0]).id for n in range(given.num_records()) if n not in (2, 5, 8)]
    before = contents(output)
    (output / "rejected.jsonl").unlink()
    annotate(str(spoiled), str(output), Settings(detector="fake"))
    assert contents(output) == before
    with pytest.raises(UserError, match="an earlier run set record 2"):
        annotate(str(spoiled), str(output), Settings(detector="fake"), on_error="stop")
    assert contents(output) == before


def test_an_image_that_nobody_looks_at_may_be_bad(spoiled: Path, tmp_path: Path):
    assert annotate(str(spoiled), str(tmp_path / "out"))["annotation"]["rejected"] == 2


def test_many_rejected_records_are_an_error_in_the_log(
    prepared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    shutil.copytree(prepared, tmp_path / "in")
    rewrite(tmp_path / "in", SHARD, lambda position, data: b"" if position < 6 else data)
    annotate(str(tmp_path / "in"), str(tmp_path / "out"))
    assert any(log.levelname == "ERROR" and "6 records (6.0%) were set aside" in log.message for log in caplog.records)


@pytest.mark.parametrize("beam", [None, "--runner=DirectRunner --direct_running_mode=in_memory"])
def test_on_error_stop_names_the_first_bad_record(spoiled: Path, tmp_path: Path, beam: str | None):
    with pytest.raises(UserError, match=f"record 2 of shard {SHARD} .* cannot be annotated: no record"):
        annotate(str(spoiled), str(tmp_path / "out"), beam=beam, on_error="stop")
    assert not (tmp_path / "out" / "manifest.json").exists()
    rewrite(spoiled, SHARD, lambda position, data: data)
    annotate(str(spoiled), str(tmp_path / "out"), beam=beam, on_error="reject")  # a failure does not stay


@pytest.mark.usefixtures("fakes")
def test_a_detector_replaces_the_objects(prepared: Path, tmp_path: Path):
    annotate(str(prepared), str(tmp_path), Settings(detector="fake"))
    cup = {"name": {"en": "cup", "zh": "杯子"}, "box": [0.0, 0.25, 0.5, 1.0], "score": 0.75}
    assert all(record.objects == [cup] for record in all_records(tmp_path))
    assert annotation_fakes.Detector.given == annotation_shard.BATCH  # and never a whole shard
    counts = read_manifest(tmp_path)["annotation"]["counts"]
    assert counts["objects"] == counts["objects.salient"] == 100
    assert counts["objects.to_append"] == counts["captions.zh"] + counts["captions.en"]


@pytest.mark.usefixtures("fakes")
def test_the_record_that_a_detector_cannot_take_is_found_in_its_batch(prepared: Path, tmp_path: Path):
    bad = all_records(prepared)[3].id
    settings = Settings(detector="fake", detector_options=json.dumps({"bad": [bad]}))
    annotate(str(prepared), str(tmp_path), settings)
    row = json.loads((tmp_path / "rejected.jsonl").read_text())
    assert row["id"] == bad and row["reason"] == "detector: RuntimeError: out of cups"


@pytest.mark.usefixtures("fakes")
def test_a_detector_that_always_fails_stops_the_run(prepared: Path, tmp_path: Path):
    settings = Settings(detector="fake", detector_options='{"always": true}')
    with pytest.raises(UserError, match=r"the detector failed for each of 16 records in a row .*out of cups"):
        annotate(str(prepared), str(tmp_path), settings)


@pytest.mark.usefixtures("fakes")
def test_captions_are_generated_and_translated(prepared: Path, tmp_path: Path):
    english = {"en": ["a cup on a table", "a cup"]}
    shutil.copytree(prepared, tmp_path / "in")
    rewrite(tmp_path / "in", SHARD, lambda _, d: dataclasses.replace(Record.unpack(d), captions=english).pack())
    settings = Settings(detector="fake", captioner="fake", translator="fake")
    manifest = annotate(str(tmp_path / "in"), str(tmp_path / "out"), settings)
    records = list(read_shard(tmp_path / "out" / SHARD))
    for record in records:
        assert record.captions == {**english, "zh": ["一个杯子16", "一个杯子5"]} and record.translated == ["zh"]
        assert [entry["mentions"] for entry in record.parsed["zh"]] == [[0], [0]]
        generated = record.generated["en"][0]
        assert generated["text"] == "a cup on RGB" and generated["by"] == "fake" and generated["mentions"] == [0]
        assert record.generated["zh"][0]["by"] == "fake, translated" and record.generated["zh"][0]["words"]
    counts = manifest["annotation"]["counts"]
    assert counts["translated"] == len(records) and counts["generated.en"] == 100
    both = next(read_shard(tmp_path / "out" / "train-00000-of-00003.array_record"))
    assert both.translated == [] and both.captions["zh"] != ["一个杯子16"]


@pytest.mark.usefixtures("fakes")
def test_annotating_again_keeps_the_first_annotations(prepared: Path, tmp_path: Path):
    annotate(str(prepared), str(tmp_path / "1"), Settings(detector="fake", captioner="fake"))
    annotate(str(tmp_path / "1"), str(tmp_path / "2"))
    assert all_records(tmp_path / "2") == all_records(tmp_path / "1")


@pytest.mark.usefixtures("fakes")
def test_the_files_of_a_model_are_part_of_the_fingerprint(prepared: Path, tmp_path: Path):
    (tmp_path / "model").mkdir()
    settings = Settings(detector="fake", detector_options=json.dumps({"model": str(tmp_path / "model")}))
    fingerprints = set()
    for weights in ("1", "2"):
        (tmp_path / "model" / "weights").write_text(weights)
        fingerprints.add(annotate(str(prepared), str(tmp_path / "out"), settings)["fingerprint"])
    assert len(fingerprints) == 2


def test_the_word_lists_are_part_of_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(tables.ASSETS / "lexicons", tmp_path / "assets/lexicons")
    monkeypatch.setattr(annotation_shard, "PACKAGE", tmp_path)
    monkeypatch.setattr(annotation_shard, "RULES", ["assets/lexicons"])
    before = annotation_shard.tool_versions(Settings())
    with (tmp_path / "assets/lexicons/zh/verbs.txt").open("a") as file:
        file.write("猫\n")
    assert annotation_shard.tool_versions(Settings()) != before
