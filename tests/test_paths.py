"""Working directories that are URLs."""

import json
from pathlib import Path

import numpy as np
import pytest

from ernie_vilg_jax import paths
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.training import metrics


def test_local_folders_stay_as_they_are() -> None:
    assert str(paths.reach("runs/demo", "workdir")) == "runs/demo"
    assert paths.absolute("runs/demo") == str(Path("runs/demo").absolute())
    assert paths.absolute("gs://bucket/run") == "gs://bucket/run"


def test_what_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"--workdir=ftp://x: URLs of ftp:// are not known; give gs:// or s3:// or"):
        paths.reach("ftp://x", "workdir")
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"--workdir=gs://bucket/run needs the package gcsfs: pip install gcsfs"):
        paths.reach("gs://bucket/run", "workdir")


def test_metrics_go_to_a_url_as_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that pretends to be a bucket: a second run goes on with the first one's lines."""
    monkeypatch.setattr(paths, "is_url", lambda path: True)
    bucket = tmp_path / "bucket"
    for step in (1, 2):
        with metrics.MetricWriter(bucket) as writer:
            writer.scalars(step, {"loss": 0.5})
            writer.images(step, np.zeros((1, 8, 8, 3), np.uint8), ["black"])
            local = writer.directory
        assert not local.exists()
    lines = (bucket / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert sorted(path.name for path in (bucket / "previews").iterdir()) == ["00000001.png", "00000002.png"]
    assert any((bucket / "tensorboard").iterdir())
