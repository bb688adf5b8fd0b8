"""Folders that are URLs, names with paths elsewhere, and atomic writes of files and folders."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ernie_vilg_jax import paths
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.training import metrics
from tests.commands import run_all
from tests.disks import Disk, as_nobody


def test_local_folders_stay_as_they_are() -> None:
    assert str(paths.reach("runs/demo", "workdir")) == "runs/demo"
    assert paths.absolute("runs/demo") == str(Path("runs/demo").absolute())
    assert paths.absolute("gs://bucket/run") == "gs://bucket/run"


def test_unreachable_urls() -> None:
    with pytest.raises(UserError, match=r"--workdir=ftp://x: URLs of ftp:// are not known; give gs:// or s3:// or"):
        paths.reach("ftp://x", "workdir")


def test_a_missing_package_for_a_url_is_named() -> None:
    # In a process of its own: libraries keep the clients that other tests have made.
    code = "import sys; sys.modules['gcsfs'] = None; from ernie_vilg_jax import paths\n"
    code += "paths.reach('gs://b/run', 'workdir')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode
    assert "--workdir=gs://b/run needs the package gcsfs: pip install gcsfs" in result.stderr


def test_the_home_folder_may_be_written_as_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.local("~/x", "output") == tmp_path / "x"
    assert str(paths.reach("~/x", "workdir")) == f"{tmp_path}/x"


URL = "gs://bucket/x"
DEMO = "ernie_vilg_jax/assets/demo"
SMOKE = "--config=configs/demo.py:base,smoke"
LOCAL_ONLY = "is a URL, and has to be a path on this machine"
NEEDS_CLIENT = "needs the package gcsfs"
# Each command with a URL for every path that it takes, and whether it refuses the URL or uses it.
URLS = [
    (["prepare", SMOKE, f"--output={URL}"], NEEDS_CLIENT),
    *(
        (["prepare", SMOKE, f"--{name}={URL}", "--output=x"], f"--{name}={URL} {LOCAL_ONLY}")
        for name in ("folder", "tfds")
    ),
    *((["prepare", SMOKE, f"--{name}={URL}", "--output=x"], NEEDS_CLIENT) for name in ("tars", "parquet")),
    (["annotate", f"--input={URL}", "--output=x"], NEEDS_CLIENT),
    (["inspect_data", SMOKE, f"--config.data.path={URL}", "--output=x"], NEEDS_CLIENT),
    (["inspect_data", SMOKE, "--config.data.path=x", f"--output={URL}"], f"--output={URL} {LOCAL_ONLY}"),
    (["train", SMOKE, f"--config.data.path={URL}", "--workdir=x"], NEEDS_CLIENT),
    (["train", SMOKE, "--config.data.path=x", f"--workdir={URL}"], NEEDS_CLIENT),
    (["sample", f"--output={URL}"], f"--output={URL} {LOCAL_ONLY}"),
    (["sample", "--output=x", f"--image={URL}"], f"--image={URL} {LOCAL_ONLY}"),
    (["sample", "--output=x", f"--checkpoint={URL}"], NEEDS_CLIENT),
    (["demo", f"--checkpoint={URL}"], NEEDS_CLIENT),
    (["aot", SMOKE, "--topology=v5e:2x2", f"--output={URL}"], f"--output={URL} {LOCAL_ONLY}"),
    (["checkpoint", "show", URL], NEEDS_CLIENT),
    (["checkpoint", "export", DEMO, URL], NEEDS_CLIENT),
    (["checkpoint", "import_autoencoder", URL, "x"], f"--source={URL} {LOCAL_ONLY}"),
    (["checkpoint", "import_autoencoder", DEMO, URL], NEEDS_CLIENT),
    (["checkpoint", "export_autoencoder", DEMO, URL], NEEDS_CLIENT),
    (["checkpoint", "merge", URL, URL, "x"], NEEDS_CLIENT),
    (["checkpoint", "branch", DEMO, URL, "--n=2"], NEEDS_CLIENT),
]


@pytest.mark.slow
@pytest.mark.documents
def test_no_command_takes_a_url_for_a_local_path(tmp_path: Path) -> None:
    """Each uses the bucket (whose client is missing here) or refuses it; none makes a folder named gs:"""
    for name in ("configs", "ernie_vilg_jax"):
        (tmp_path / name).symlink_to(Path(__file__).parent.parent / name)
    results = run_all([command for command, _ in URLS], cwd=tmp_path)
    said = [
        (" ".join(command), result.status, result.stderr) for (command, _), result in zip(URLS, results, strict=True)
    ]
    wrong = [one for one, (_, sentence) in zip(said, URLS, strict=True) if one[1] != 1 or sentence not in one[2]]
    assert not wrong
    assert "gs:" not in os.listdir(tmp_path)


def test_metrics_go_to_a_url_as_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder as a fake bucket: a second run continues the lines of the first."""
    monkeypatch.setattr(paths, "is_url", lambda path: True)
    bucket = tmp_path / "bucket"
    for step in (1, 2):
        with metrics.MetricWriter(bucket) as writer:
            writer.scalars(step, {"loss": 0.5})
            writer.images(step, [np.zeros((8, 8, 3), np.uint8)], ["black"])
            local = writer.directory
        assert not local.exists()
    lines = (bucket / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert sorted(path.name for path in (bucket / "previews").iterdir()) == ["00000001.png", "00000002.png"]
    assert any((bucket / "tensorboard").iterdir())


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "..", ".", "", "../x", "a/../b", "a/b", "a\\b", "C:\\x", "a\0b", "../" * 999, 7, None]
)
def test_a_name_that_is_not_plain_is_refused(name: Any) -> None:
    with pytest.raises(
        UserError, match=r"^notes\.json names the file .*, which is not the plain name of a file beside it"
    ):
        paths.plain_name(name, "notes.json")


@pytest.mark.parametrize("name", ["train-00000-of-00008.array_record", "..x", "a b", ".hidden", "图.safetensors"])
def test_plain_names_stay_as_they_are(name: str) -> None:
    assert paths.plain_name(name, "notes.json") == name


def test_a_file_is_written_whole_or_not_at_all(disk: Callable[[int], Disk]) -> None:
    small = disk(200)
    file = small.path / "file"
    paths.write_atomically(file, b"before")
    with pytest.raises(UserError, match=r"file: no space left on device"):
        paths.write_atomically(file, bytes(300_000))
    assert file.read_bytes() == b"before" and os.listdir(small.path) == ["file"]
    small.make_read_only()
    with pytest.raises(UserError, match=r"file: read-only file system"):
        paths.write_atomically(file, b"after")
    paths.write_atomically(Path("/dev/null"), b"x")
    assert Path("/dev/null").is_char_device(), "a device is written to, not replaced"


def test_an_output_is_tried_before_the_work(tmp_path: Path, open_folder: Path) -> None:
    (tmp_path / "file").write_text("kept")
    paths.check_writable(tmp_path / "new/folder", "output", "grid.png")
    paths.check_writable(tmp_path / "file", "output")
    paths.check_writable("/dev/stdout", "output")
    assert os.listdir(tmp_path / "new/folder") == [] and (tmp_path / "file").read_text() == "kept"
    for path, name, reason in (
        (tmp_path / "file", "grid.png", "file exists"),
        (tmp_path / "file/deeper", "", "file exists"),
        (tmp_path / "new", "", "is a directory"),
        (tmp_path / "new", "folder", "is a directory"),
    ):
        with pytest.raises(UserError, match=rf"^--output={path} cannot be written \(.*{reason}; "):
            paths.check_writable(path, "output", name)
    (open_folder / "closed").mkdir(mode=0o500)
    with as_nobody(), pytest.raises(UserError, match=r"--output=.*closed cannot be written .*permission denied"):
        paths.check_writable(open_folder / "closed", "output", "grid.png")


def test_a_folder_is_replaced_when_its_successor_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    for content in ("first", "second"):
        with paths.replacing(folder) as fresh:
            fresh.mkdir()
            (fresh / content).write_text(content)
            (fresh / "deeper").mkdir()
        assert sorted(os.listdir(folder)) == ["deeper", content]
    with pytest.raises(KeyError), paths.replacing(folder) as fresh:
        fresh.mkdir()
        (fresh / "third").write_text("")
        raise KeyError
    assert sorted(os.listdir(folder)) == ["deeper", "second"]
    with pytest.raises(KeyError), paths.replacing(tmp_path / "never"):
        raise KeyError
    assert os.listdir(tmp_path) == ["weights"]
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"file.*: not a directory; a file is where"),
        paths.replacing(tmp_path / "file"),
    ):
        pass


def test_a_folder_that_is_a_disk_of_its_own_is_replaced_too(disk: Callable[[int], Disk]) -> None:
    small = disk(200)
    for content, size in (("first", 10), ("second", 100_000)):
        with paths.replacing(small.path) as fresh:
            fresh.mkdir()
            (fresh / content).write_bytes(bytes(size))
    with (
        pytest.raises(UserError, match=r"disk0: no space left"),
        paths.replacing(small.path) as fresh,
        file_errors(fresh),
    ):
        fresh.mkdir()
        (fresh / "third").write_bytes(bytes(150_000))
    assert os.listdir(small.path) == ["second"]


def test_leftovers_of_a_killed_run_count_as_empty(tmp_path: Path) -> None:
    (tmp_path / paths.SCRATCH / "x").mkdir(parents=True)
    assert paths.is_empty(tmp_path)
    with paths.replacing(tmp_path) as fresh:
        fresh.mkdir()
        (fresh / "new").write_text("")
    assert os.listdir(tmp_path) == ["new"] and not paths.is_empty(tmp_path)


@pytest.mark.parametrize("place", ["/proc/x", "/proc/x/y", "a" * 300, "b" * 300 + "/c"])
def test_places_where_nothing_can_be_made_are_one_sentence(place: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--output=.* cannot be written \(.*choose a(nother place| shorter name)"):
        paths.check_writable(tmp_path / place, "output", "grid.png")


def test_a_path_inside_a_folder_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    for path, folder in (("a", "a"), ("a/b", tmp_path), ("link/b", "a"), ("a/x/y", "a/"), ("gs://b/a/c", "gs://b/a/")):
        assert paths.inside(path, folder)
    for path, folder in (("a", "a/b"), ("ab", "a"), ("a/../c", "a"), ("gs://b/ab", "gs://b/a"), ("a", "gs://a")):
        assert not paths.inside(path, folder)
