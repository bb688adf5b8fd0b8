"""`python -m ernie_vilg_jax.annotate`, as users call it."""

import subprocess
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.records import read_manifest
from ernie_vilg_jax.preparation.prepare import prepare
from tests.commands import python_m


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = default_config()
    config.model.image_size = 16
    config.tokenizer = ConfigDict({"kind": "sentencepiece", "vocab_size": 400, "max_length": 16, "path": ""})
    config.data.sources = (ConfigDict({"name": "scenes", "count": 30}),)
    config.data.num_shards = 2
    path = tmp_path_factory.mktemp("data") / "prepared"
    prepare(config, path)
    return path


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [*python_m(), "ernie_vilg_jax.annotate", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_annotate_writes_a_directory_and_logs_counts(prepared: Path, tmp_path: Path):
    done = command(f"--input={prepared}", f"--output={tmp_path / 'out'}", "--tagger=zh", "--workers=2")
    assert done.returncode == 0, done.stderr
    assert {file.name for file in (tmp_path / "out").iterdir()} == {file.name for file in prepared.iterdir()}
    assert "30 records read = 30 annotated + 0 rejected" in done.stderr
    assert "3 of 3 shards" not in done.stderr and f"--config.data.path={tmp_path / 'out'}" in done.stderr
    counts = read_manifest(tmp_path / "out")["annotation"]["counts"]
    assert counts["words.zh.n"] > 0
    again = command(f"--input={prepared}", f"--output={tmp_path / 'out'}", "--tagger=zh")
    assert again.returncode == 0 and "nothing to do" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detector=yolo"], "--detector=yolo must be one of records, "),
        (["--detector_options={"], "--detector_options='{' is no JSON"),
        (["--beam=", "--workers=2"], "--beam and --workers exclude each other"),
        (["--on_error=ignore"], "on_error"),
    ],
)
def test_mistakes_end_in_one_sentence(prepared: Path, tmp_path: Path, arguments: list[str], message: str):
    done = command(f"--input={prepared}", f"--output={tmp_path / 'out'}", *arguments)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ") and message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_shows_the_commands(prepared: Path):
    done = command("--help")
    assert done.returncode == 0 and "--direct_running_mode=multi_processing" in done.stdout
