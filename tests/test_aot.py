"""The command, with the real TPU compiler (libtpu, and no TPU) and a tiny model; what it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = (
    "--config=configs/demo.py:experts,smoke",
    *("--config.dtype=bfloat16", "--config.experts.n=2", "--config.data.cache_latents=True"),
    *("--config.phases.experts.batch_size=8", "--config.sample.steps=4", "--config.tokenizer.vocab_size=64"),
    *("--config.model.text_encoder.num_layers=1", "--config.model.text_encoder.width=16"),
    *("--config.model.unet.base_channels=16", "--config.model.unet.head_channels=8"),
)


def aot(*arguments: str) -> subprocess.CompletedProcess[str]:
    # The flags of the tests are for CPU; libtpu stops at those that it does not know.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", "ernie_vilg_jax.aot", *TINY, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
def test_a_training_step_for_a_tpu_that_is_not_there(tmp_path: Path) -> None:
    report = tmp_path / "report.txt"
    mesh = "--config.mesh.expert=2", "--config.mesh.data=1", "--config.mesh.fsdp=2"
    done = aot("--topology=v5e:2x2", *mesh, "--quick", f"--output={report}")
    assert done.returncode == 0, done.stderr
    lines = {line[:30].strip(): line[30:].split() for line in report.read_text().splitlines()}
    assert "4 x v5e, 8 pictures" in report.read_text()
    assert report.read_text() in done.stdout
    assert {"experts, parameters", "experts, average", "experts, optimizer", "temporary", "peak"} <= set(lines)
    # Parameters are gathered along `fsdp`, their gradients summed and cut.
    assert {"all-gather", "reduce-scatter", "all-reduce"} & set(lines)
    assert "verdict: fits" in report.read_text()


@pytest.mark.slow
def test_sampling_for_a_tpu_that_is_not_there() -> None:
    done = aot("--topology=v5e:2x2", "--program=sampling", "--batch=4", "--quick")
    assert done.returncode == 0, done.stderr
    assert "4 x v5e, 4 pictures" in done.stdout
    assert "4 steps of ddim with guidance" in done.stdout
    assert "verdict: fits" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--topology=v99:2x2",), "--topology=v99:2x2 is of no known chip"),
        (("--topology=v5e:2x5",), "--topology=v5e:2x5 cannot be compiled for"),
        (("--topology=v5e:2x2", "--config.mesh.fsdp=3"), "mesh"),
        (("--topology=v5e:2x2", "--program=sampling", "--batch=3"), "--batch=3 must be a multiple of 4"),
        (
            ("--topology=v5e:2x2", "--output=/dev/null/x"),
            "--output=/dev/null/x cannot be written (/dev/null: file exists; a file is",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    done = aot(*arguments)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
