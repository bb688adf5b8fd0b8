"""The drivers: this process, worker processes, Apache Beam. All write the same bytes."""

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ernie_vilg_jax.annotation import annotate as annotation
from ernie_vilg_jax.annotation import shard as annotation_shard
from ernie_vilg_jax.annotation.annotate import annotate
from ernie_vilg_jax.errors import UserError
from tests.preparation.folders import Stop, contents

BEAM = "--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=multi_processing"


def test_worker_processes_write_the_same_bytes(prepared: Path, annotated: Path, tmp_path: Path):
    annotate(str(prepared), str(tmp_path / "out"), workers=2)
    assert contents(tmp_path / "out") == contents(annotated)


@pytest.mark.proofs
def test_beam_writes_the_same_bytes(prepared: Path, annotated: Path, tmp_path: Path):
    annotate(str(prepared), str(tmp_path / "out"), beam=BEAM)
    assert contents(tmp_path / "out") == contents(annotated)


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
    process.stderr.read()  # until the workers, which share it, have also exited
    annotate(str(prepared), str(output))
    assert contents(output) == contents(annotated)


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
    monkeypatch.delitem(sys.modules, "ernie_vilg_jax.preparation.run_beam", raising=False)
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match="needs the package apache-beam: pip install"):
        annotate(str(prepared), str(tmp_path), beam=BEAM)


def test_a_worker_with_other_rules_refuses(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shard = annotation_shard.annotate_shard

    def elsewhere(job: Any, *rest: Any) -> Any:
        return shard(dataclasses.replace(job, versions={**job.versions, "rjieba": "0"}), *rest)

    monkeypatch.setattr(annotation_shard, "annotate_shard", elsewhere)
    with pytest.raises(UserError, match="other versions of the taggers"):
        annotate(str(prepared), str(tmp_path))
