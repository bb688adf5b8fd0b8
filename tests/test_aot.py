"""The command, with the real TPU compiler (libtpu, without a TPU) and a tiny model; its errors."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from ernie_vilg_jax.forecast import NAMES
from tests.commands import python_m

TINY = (
    "--config=configs/demo.py:experts,smoke",
    *("--config.dtype=bfloat16", "--config.experts.n=2", "--config.data.cache_latents=True"),
    *("--config.phases.experts.batch_size=8", "--config.sample.steps=4", "--config.tokenizer.vocab_size=64"),
    *("--config.model.text_encoder.num_layers=1", "--config.model.text_encoder.width=16"),
    *("--config.model.unet.base_channels=16", "--config.model.unet.head_channels=8"),
)
MESH = ("--topology=v5e:2x2", "--config.mesh.expert=2", "--config.mesh.data=1", "--config.mesh.fsdp=2")


def start(*arguments: str) -> subprocess.Popen[str]:
    # The flags of the tests are for CPU; libtpu fails on unknown flags.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [*python_m(), "ernie_vilg_jax.aot", *TINY, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def aot(*arguments: str) -> subprocess.CompletedProcess[str]:
    process = start(*arguments)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@pytest.mark.slow
def test_a_training_step_for_a_tpu_that_is_not_there(tmp_path: Path) -> None:
    report = tmp_path / "report.txt"
    done = aot(*MESH, "--quick", f"--output={report}")
    assert done.returncode == 0, done.stderr
    lines = {line[:30].strip(): line[30:].split() for line in report.read_text().splitlines()}
    assert "4 x v5e, 8 images" in report.read_text()
    assert report.read_text() in done.stdout
    assert {"experts, parameters", "experts, average", "experts, optimizer", "temporary", "peak"} <= set(lines)
    # Parameters are gathered along `fsdp`, their gradients summed and cut.
    assert {"all-gather", "reduce-scatter", "all-reduce"} & set(lines)
    assert "verdict: fits" in report.read_text()


@pytest.mark.slow
@pytest.mark.proofs
def test_sampling_for_a_tpu_that_is_not_there() -> None:
    done = aot("--topology=v5e:2x2", "--program=sampling", "--batch=4", "--quick")
    assert done.returncode == 0, done.stderr
    assert "4 x v5e, 4 images" in done.stdout
    assert "4 steps of ddim with guidance" in done.stdout
    assert "verdict: fits" in done.stdout


@pytest.mark.slow
@pytest.mark.proofs
def test_a_program_that_does_not_fit_is_reported_with_its_exit_status(tmp_path: Path) -> None:
    done = aot(*MESH, "--quick", "--program=autoencoder_step", "--config.phases.autoencoder.batch_size=8388608")
    assert done.returncode == 1
    assert "peak" in done.stdout
    assert re.search(r"error: the program does not fit: [\d.]+ GiB of 16, most of it temporary [\d.]+ GiB", done.stderr)


@pytest.mark.slow
@pytest.mark.hosts
def test_all_programs_of_a_run_are_rows_of_one_table(tmp_path: Path) -> None:
    """Killed while it runs, run again to its end, and once more with nothing left to compile."""
    folder = tmp_path / "reports"
    # A batch that is too large, and one that does not divide: neither stops the run.
    batches = "--config.phases.autoencoder.batch_size=8388608", "--config.phases.base.batch_size=3"
    model = "--topology=v5e:2x2", "--config.mesh.expert=2", "--config.model.unet.attention_downsamplings=(2,)"
    command = (*model, *batches, "--program=all", "--quick", f"--output={folder}")
    killed = start(*command)
    while len(list(folder.glob("*.json"))) < 2:
        assert killed.poll() is None, killed.communicate()[1]
        time.sleep(0.05)
    killed.kill()
    killed.communicate()
    before = reports(folder)
    assert 2 <= len(before) < len(NAMES)

    done = aot(*command)
    assert done.returncode == 1
    assert "not every program fits" in done.stderr
    lines = done.stdout.splitlines()[2:]
    rows = {name: cells for name, *cells in ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)}
    assert tuple(rows) == NAMES
    *_, verdict, compiled = rows.pop("autoencoder_step")
    assert verdict.startswith("does not fit: temporary") and compiled.endswith("s, quick")
    for name, (*_, verdict, compiled) in rows.items():
        if name.startswith("base"):
            assert verdict.startswith("cannot run: --config.phases.base.batch_size=3 must be a multiple of")
        else:
            assert verdict == "fits" and compiled.endswith("s, quick")
    assert (folder / "table.md").read_text() == done.stdout
    all_of_them = reports(folder)
    assert set(all_of_them) == {name for name in NAMES if not name.startswith("base")}
    assert {name: all_of_them[name] for name in before} == before

    again = aot(*command)
    assert again.returncode == 1
    assert again.stdout == done.stdout
    assert reports(folder) == all_of_them


def reports(folder: Path) -> dict[str, int]:
    """The time of each report of a compiled program."""
    return {file.stem: file.stat().st_mtime_ns for file in folder.glob("*.txt") if not file.stem.startswith("base")}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--topology=v99:2x2",), "--topology=v99:2x2 names no known chip"),
        (("--topology=v5e:2x5",), "--topology=v5e:2x5 cannot be compiled for"),
        (("--topology=v5e:2x2", "--config.mesh.fsdp=3"), "mesh"),
        (("--topology=v5e:2x2", "--program=sampling", "--batch=3"), "--batch=3 must be a multiple of 4"),
        (
            ("--topology=v5e:2x2", "--output=/dev/null/x"),
            "--output=/dev/null/x cannot be written (/dev/null: file exists; a file is",
        ),
        (("--topology=v5e:2x2", "--program=all"), "--program=all needs --output=FOLDER"),
        (("--topology=v5e:2x2", "--program=all", "--output=x", "--search"), "--search looks for the batch of one"),
        (("--topology=v5e:2x2", "--program=base_save", "--search"), "--search goes with training steps and sampling"),
    ],
)
def test_impossible_requests_are_refused_in_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    done = aot(*arguments)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
