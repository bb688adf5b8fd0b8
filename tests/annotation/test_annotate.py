import dataclasses
import json
import multiprocessing
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.annotation import annotate as annotation
from ernie_vilg_jax.annotation import captioners, detectors, translators
from ernie_vilg_jax.annotation import run_local as annotation_local
from ernie_vilg_jax.annotation import shard as annotation_shard
from ernie_vilg_jax.annotation.annotate import Settings, annotate
from ernie_vilg_jax.data.files import file_sha256, sealed_json
from ernie_vilg_jax.data.loader import make_loader
from ernie_vilg_jax.data.manifests import check_shards, read_manifest
from ernie_vilg_jax.data.records import Record, open_split, read_shard
from ernie_vilg_jax.data.tokenizers import load_tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.prepare import prepare
from tests.annotation import annotation_fakes
from tests.disks import Disk, as_nobody
from tests.preparation.test_prepare import Stop, contents

BEAM = "--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=multi_processing"
SHARD = "train-00001-of-00003.array_record"


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(detectors.DETECTORS, "fake", "tests.annotation.annotation_fakes:Detector")
    monkeypatch.setitem(captioners.CAPTIONERS, "fake", "tests.annotation.annotation_fakes:Captioner")
    monkeypatch.setitem(translators.TRANSLATORS, "fake", "tests.annotation.annotation_fakes:Translator")
    annotation_fakes.Detector.given = 0


def all_records(path: Path) -> list[Record]:
    shards = [shard for split in read_manifest(path)["splits"].values() for shard in split["shards"]]
    return [record for shard in shards if shard["records"] for record in read_shard(path / shard["file"])]


def rewrite(path: Path, shard: str, change: Callable[[int, bytes], bytes]) -> None:
    """Changes the bytes of a shard's records, and its manifest to match."""
    from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

    reader = array_record_module.ArrayRecordReader(str(path / shard))
    rows = [change(n, reader.read([n])[0]) for n in range(reader.num_records())]
    reader.close()
    writer = array_record_module.ArrayRecordWriter(str(path / shard), "group_size:1")
    for row in rows:
        writer.write(row)
    writer.close()
    manifest = read_manifest(path)
    for entry in (entry for split in manifest["splits"].values() for entry in split["shards"]):
        if entry["file"] == shard:
            entry |= {"bytes": (path / shard).stat().st_size, "sha256": file_sha256(path / shard)}
    (path / "manifest.json").write_bytes(sealed_json(manifest))


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


def test_worker_processes_write_the_same_bytes(prepared: Path, annotated: Path, tmp_path: Path):
    annotate(str(prepared), str(tmp_path / "out"), workers=2)
    assert contents(tmp_path / "out") == contents(annotated)


def test_beam_writes_the_same_bytes(prepared: Path, annotated: Path, tmp_path: Path):
    annotate(str(prepared), str(tmp_path / "out"), beam=BEAM)
    assert contents(tmp_path / "out") == contents(annotated)


def test_an_interrupted_run_resumes_to_the_same_bytes(
    prepared: Path, annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    made: list[str] = []

    def count(job: Any, name: str, *rest: Any) -> Any:
        if len(made) == 2:
            raise Stop
        made.append(name)
        return annotation_shard.annotate_shard(job, name, *rest)

    monkeypatch.setattr(annotation_local, "annotate_shard", count)
    with pytest.raises(Stop):
        annotate(str(prepared), str(tmp_path))
    with pytest.raises(UserError, match="did not finish"):
        open_split(tmp_path, "train")
    (tmp_path / ".progress" / "work" / "of a killed worker").mkdir()
    monkeypatch.setattr(annotation_local, "annotate_shard", annotation_shard.annotate_shard)
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in made}
    annotate(str(prepared), str(tmp_path))
    assert contents(tmp_path) == contents(annotated)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in made} == times


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_run_resumes_to_the_same_bytes_and_its_workers_end(prepared: Path, annotated: Path, tmp_path: Path):
    code = (
        "import sys\n"
        "from ernie_vilg_jax.annotation.annotate import annotate\n"
        "if __name__ == '__main__':\n"
        "    annotate(sys.argv[1], sys.argv[2], workers=2)\n"
    )
    (tmp_path / "run.py").write_text(code)
    output = tmp_path / "killed"
    command = [sys.executable, str(tmp_path / "run.py"), str(prepared), str(output)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    deadline = time.monotonic() + 300
    while not list(output.glob(".progress/*.array_record.json")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.read()  # until the workers, who share it, are gone as well
    annotate(str(prepared), str(output))
    assert contents(output) == contents(annotated)


def test_a_finished_directory_is_left_alone(prepared: Path, annotated: Path, tmp_path: Path):
    shutil.copytree(annotated, tmp_path / "out")
    (tmp_path / "out" / ".progress").mkdir()  # a kill after the manifest leaves it
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*")}
    del times[tmp_path / "out" / ".progress"]
    assert annotate(str(prepared), str(tmp_path / "out")) == read_manifest(annotated)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*")} == times


def test_other_settings_make_all_shards_anew(
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


def spoil(position: int, data: bytes) -> bytes:
    """Three bad records of different kinds."""
    if position == 2:
        return b"nothing"
    record = Record.unpack(data)
    if position == 5:
        return dataclasses.replace(record, image=b"no picture").pack()
    if position == 8:
        return dataclasses.replace(record, captions={"en": [3]}).pack()
    return data


@pytest.fixture
def spoiled(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "spoiled")
    rewrite(tmp_path / "spoiled", SHARD, spoil)
    return tmp_path / "spoiled"


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
def test_annotating_again_keeps_what_the_first_pass_added(prepared: Path, tmp_path: Path):
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


def test_folders_behind_urls(prepared: Path, annotated: Path, tmp_path: Path):
    file_system = annotation_fakes.url_file_system(tmp_path)
    assert file_system.scheme() == "test"
    shutil.copytree(prepared, tmp_path / "bucket" / "in")
    annotate("test://bucket/in", "test://bucket/out")
    assert contents(tmp_path / "bucket" / "out") == contents(annotated)
    (tmp_path / "bucket" / "out" / SHARD).unlink()
    annotate("test://bucket/in", "test://bucket/out/", beam="--runner=DirectRunner --direct_running_mode=in_memory")
    assert contents(tmp_path / "bucket" / "out") == contents(annotated)
    with pytest.raises(UserError, match="lies inside it"):
        annotate("test://bucket/in", "test://bucket/in/out")
    with pytest.raises(UserError, match="cannot open nowhere://bucket/in"):
        annotate("nowhere://bucket/in", "test://bucket/new")


def test_storage_that_refuses_is_one_sentence(
    prepared: Path, annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file_system = annotation_fakes.url_file_system(tmp_path, "shut")
    shutil.copytree(prepared, tmp_path / "bucket" / "in")
    shutil.copytree(annotated, tmp_path / "bucket" / "out")

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("403 the service account lacks storage.objects.get\nand more")

    for method in ("_list", "open", "create", "delete"):
        with monkeypatch.context() as patch:
            patch.setattr(file_system, method, refuse)
            with pytest.raises(UserError, match=r"^shut://bucket/\S+ cannot be reached \(.*403.*\): check the URL and"):
                annotate("shut://bucket/in", "shut://bucket/out", Settings(tagger="zh"))


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"tagger": "fr"}, {}, "--tagger=fr is not known: choose one of zh, en, both"),
        ({"detector": "yolo"}, {}, "--detector=yolo is not known: choose one of records, "),
        ({"captioner": "ofa"}, {}, "--captioner=ofa is not known: choose one of "),
        ({"translator": "x"}, {}, "--translator=x is not known: choose one of "),
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


def test_folders_that_cannot_be_meant_are_refused(prepared: Path, tmp_path: Path):
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


def test_a_run_killed_before_the_manifest_has_only_that_to_do(
    prepared: Path, annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(*arguments: Any) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(annotation, "_copy_companions", stop)
        with pytest.raises(Stop):
            annotate(str(prepared), str(tmp_path))
    annotate(str(prepared), str(tmp_path), beam=BEAM)
    assert contents(tmp_path) == contents(annotated)


def test_a_missing_beam_is_one_sentence(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for module in ("run_beam", "url_folder"):
        monkeypatch.delitem(sys.modules, f"ernie_vilg_jax.annotation.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match="need the package apache-beam: pip install"):
        annotate(str(prepared), str(tmp_path), beam=BEAM)
    with pytest.raises(UserError, match="need the package apache-beam: pip install"):
        annotate("gs://bucket/in", str(tmp_path))


def test_a_worker_with_other_rules_refuses(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shard = annotation_local.annotate_shard

    def elsewhere(job: Any, *rest: Any) -> Any:
        return shard(dataclasses.replace(job, versions={**job.versions, "rjieba": "0"}), *rest)

    monkeypatch.setattr(annotation_local, "annotate_shard", elsewhere)
    with pytest.raises(UserError, match="other versions of the taggers"):
        annotate(str(prepared), str(tmp_path))


@pytest.mark.parametrize(
    "driver",
    [{}, {"workers": 2}, {"beam": "--runner=DirectRunner --direct_running_mode=in_memory"}],
    ids=["here", "workers", "beam"],
)
def test_a_full_disk_keeps_what_is_finished_and_the_same_command_goes_on(
    prepared: Path, annotated: Path, disk: Callable[[int], Disk], driver: dict[str, Any]
):
    whole = sum(file.stat().st_size for file in annotated.rglob("*") if file.is_file())
    small = disk(60 + whole // 1024 // 3)
    output = small.path / "out"
    with pytest.raises(UserError, match=r"out/.*: no space left on device; free some space there and run the same"):
        annotate(str(prepared), str(output), **driver)
    for worker in multiprocessing.active_children():  # one that was not the first to fail
        worker.join()
    assert not (output / "manifest.json").exists() and not list(output.glob("**/*.partial"))
    finished = {file: file.stat().st_mtime_ns for file in output.glob("*.array_record")}
    small.resize(1024 + 2 * whole // 1024)
    annotate(str(prepared), str(output))
    assert contents(output) == contents(annotated)
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    small.make_read_only()
    assert annotate(str(prepared), str(output)) == read_manifest(annotated), "a finished folder may be read-only"
    for other in (output, small.path / "new"):
        with pytest.raises(UserError, match=r"(?i)read-only file system"):
            annotate(str(prepared), str(other), Settings(tagger="zh"))
    assert contents(output) == contents(annotated)


def test_a_worker_says_what_its_disk_refuses(prepared: Path, disk: Callable[[int], Disk]):
    """Itself, because the runners of Beam bury what workers raise."""
    small = disk(100)
    job = annotation.make_job(str(prepared), str(small.path), Settings(), read_manifest(prepared), "reject")
    small.make_read_only()
    with pytest.raises(UserError, match=r"progress: read-only file system; choose a place that can be written"):
        annotation_shard.annotate_shard(job, SHARD)


@pytest.mark.parametrize("name", [SHARD, "manifest.json", ".progress", "tokenizer", "LICENCES.md"])
def test_what_is_in_the_way_is_named_and_left_there(prepared: Path, annotated: Path, tmp_path: Path, name: str):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    if (annotated / name).is_file():
        (tmp_path / name / "in the way").mkdir(parents=True)
    else:
        (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=rf"{name}: (is a directory|file exists|not a directory); .* belongs"):
        annotate(str(prepared), str(tmp_path))
    shutil.rmtree(tmp_path / name) if (tmp_path / name).is_dir() else (tmp_path / name).unlink()
    annotate(str(prepared), str(tmp_path))
    assert contents(tmp_path) == contents(annotated)


def test_files_without_rights_are_named(prepared: Path, annotated: Path, open_folder: Path):
    shutil.copytree(prepared, open_folder / "in")
    shutil.copytree(annotated, open_folder / "out")
    for name, mode in (("in", 0o755), ("out", 0o755), (f"in/{SHARD}", 0)):
        (open_folder / name).chmod(mode)
    with as_nobody():
        for output, place in (("new", rf"in/{SHARD}"), ("out", r"out/.*")):
            with pytest.raises(UserError, match=rf"{place}: permission denied; give this user the right to it"):
                annotate(str(open_folder / "in"), str(open_folder / output), Settings(tagger="zh"))
        with pytest.raises(UserError, match=r"closed cannot be made a folder \(Permission denied\)"):
            annotate(str(open_folder / "in"), str(open_folder / "out/closed"))
    assert contents(open_folder / "out") == contents(annotated)


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
def test_a_shard_whose_note_was_changed_is_made_again_and_nothing_elsewhere_is_touched(
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
