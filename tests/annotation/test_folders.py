"""Folders on failing disks, and behind URLs."""

import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ernie_vilg_jax.annotation import annotate as annotation
from ernie_vilg_jax.annotation import shard as annotation_shard
from ernie_vilg_jax.annotation.annotate import Settings, annotate
from ernie_vilg_jax.data.manifests import read_manifest
from ernie_vilg_jax.errors import UserError
from tests.annotation.shards import SHARD
from tests.buckets import contents_of, upload
from tests.disks import Disk, as_nobody
from tests.preparation.folders import contents


def test_folders_behind_urls(prepared: Path, annotated: Path, memory: Any):
    upload(memory, prepared, "memory://bucket/in")
    annotate("memory://bucket/in", "memory://bucket/out")
    assert contents_of(memory, "memory://bucket/out") == contents(annotated)
    memory.rm_file(f"memory://bucket/out/{SHARD}")
    annotate("memory://bucket/in", "memory://bucket/out/", beam="--runner=DirectRunner --direct_running_mode=in_memory")
    assert contents_of(memory, "memory://bucket/out") == contents(annotated)
    with pytest.raises(UserError, match="lies inside it"):
        annotate("memory://bucket/in", "memory://bucket/in/out")
    with pytest.raises(
        UserError, match="--input=nowhere://bucket/in: URLs of nowhere:// are not known; give gs:// or s3://"
    ):
        annotate("nowhere://bucket/in", "memory://bucket/new")


def test_storage_that_refuses_is_one_sentence(
    prepared: Path, annotated: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
):
    upload(memory, prepared, "memory://bucket/in")
    upload(memory, annotated, "memory://bucket/out")

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("403 the service account lacks storage.objects.get\nand more")

    for method in ("info", "find", "cat_file", "pipe_file", "rm_file"):
        with monkeypatch.context() as patch:
            patch.setattr(type(memory), method, refuse)
            with pytest.raises(UserError, match=r"^memory://bucket/\S+ cannot be reached \(.*403.*\): check the URL"):
                annotate("memory://bucket/in", "memory://bucket/out", Settings(tagger="zh"))


@pytest.mark.parametrize(
    "driver",
    [{}, {"workers": 2}, {"beam": "--runner=DirectRunner --direct_running_mode=in_memory"}],
    ids=["here", "workers", "beam"],
)
def test_a_full_disk_keeps_finished_shards_and_the_same_command_resumes(
    prepared: Path, annotated: Path, disk: Callable[[int], Disk], driver: dict[str, Any]
):
    whole = sum(file.stat().st_size for file in annotated.rglob("*") if file.is_file())
    small = disk(60 + whole // 1024 // 3)
    output = small.path / "out"
    with pytest.raises(UserError, match=r"out/.*: no space left on device; free some space there and run the same"):
        annotate(str(prepared), str(output), **driver)
    for worker in multiprocessing.active_children():  # workers other than the first to fail
        worker.join()
    assert not (output / "manifest.json").exists() and not list(output.glob("**/*.partial"))
    notes = [output / annotation_shard.note_name(file.name) for file in output.glob("*.array_record")]
    finished = {file: file.stat().st_mtime_ns for note in notes if note.exists() for file in [output / note.stem]}
    assert finished, "the disk filled before any shard was finished"
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


def test_a_worker_reports_errors_of_its_disk(prepared: Path, disk: Callable[[int], Disk]):
    """The worker itself, because the runners of Beam hide its exceptions."""
    small = disk(100)
    job = annotation.make_job(str(prepared), str(small.path), Settings(), read_manifest(prepared), "reject")
    small.make_read_only()
    with pytest.raises(UserError, match=r"progress: read-only file system; choose a place that can be written"):
        annotation_shard.annotate_shard(job, SHARD)


@pytest.mark.parametrize("name", [SHARD, "manifest.json", ".progress", "tokenizer", "LICENCES.md"])
def test_obstructing_files_are_named_and_kept(prepared: Path, annotated: Path, tmp_path: Path, name: str):
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
