"""Fixtures of the annotation tests."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from ernie_vilg_jax.annotation import captioners, detectors, translators
from ernie_vilg_jax.data.records import Record
from tests.annotation import annotation_fakes
from tests.annotation.shards import SHARD, rewrite


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(detectors.DETECTORS, "fake", "tests.annotation.annotation_fakes:Detector")
    monkeypatch.setitem(captioners.CAPTIONERS, "fake", "tests.annotation.annotation_fakes:Captioner")
    monkeypatch.setitem(translators.TRANSLATORS, "fake", "tests.annotation.annotation_fakes:Translator")
    annotation_fakes.Detector.given = 0


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
