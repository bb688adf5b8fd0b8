"""`doctor` on fake devices: its report, that it continues after a failure, and that it detects failures."""

import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from configs.demo import get_config
from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.chips import Chip
from ernie_vilg_jax.diagnosis import machine, program, sections
from ernie_vilg_jax.diagnosis.program import Examination
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sharding.mesh import make_mesh
from ernie_vilg_jax.sharding.splash_attention import splash
from tests.commands import on_devices, run_all

pytestmark = pytest.mark.slow

SMOKE = "--config=configs/demo.py:base,smoke"
TWO = on_devices(2)
NAMES = ["Versions and devices", "Arithmetic and memory", "Attention kernel", "Training step of base"]
NAMES += ["Against the compiler's estimate", "Sampling", "Save and restore"]


@pytest.mark.hosts
def test_the_command_on_two_devices(tmp_path: Path) -> None:
    arguments = [f"--output={tmp_path}/report.md", f"--workdir={tmp_path}/run", "--config.mesh.fsdp=2", "--each=4"]
    well, ill = run_all(
        [
            ["doctor", SMOKE, "--config.mesh.data=1", *arguments],
            ["doctor", SMOKE, "--config.phases.base.learning_rate=nan", "--config.phases.base.warmup_steps=0"],
        ],
        environment=TWO,
    )
    assert well.status == 0, well.stderr
    found = [line[4:].partition(":")[0] for line in well.stdout.splitlines() if line.startswith("### ")]
    assert found == NAMES
    assert "2 x cpu (cpu) on 1 process(es); mesh expert=1, data=1, fsdp=2, tensor=1" in well.stdout
    assert "a step of 8 images" in well.stdout and "every bit is the same" in well.stdout
    assert well.stdout.rstrip().endswith("6 passed, 1 skipped (Attention kernel)")
    assert (tmp_path / "report.md").read_text().split() == well.stdout.split()
    assert not os.listdir(tmp_path / "run")
    # A failure does not hide the rest, and sets the exit status.
    assert ill.status == 1
    assert "- ArithmeticError: a loss is NaN or infinite" in ill.stdout
    assert "1 failed (Training step of base), 3 passed, 3 skipped" in ill.stdout
    assert "Traceback" in ill.stderr


@pytest.fixture
def examination() -> Examination:
    """On one device."""
    config = get_config("base,smoke")
    return Examination(config, make_mesh({}, jax.devices()[:1]), each=2)


@pytest.mark.hosts
def test_measured_against_the_estimate(examination: Examination, monkeypatch: pytest.MonkeyPatch) -> None:
    with jax.set_mesh(examination.mesh):
        list(examination.train())
    assert examination.task.batch_size == 2
    monkeypatch.setattr(program, "KINDS", {"cpu": Chip("v0", 1e9, 1e9, 1e12, 1e9)})
    monkeypatch.setattr(program, "memory_of", lambda device: {"peak_bytes_in_use": 2**30})
    peak, time = examination.estimate()
    assert "1.00 GiB measured so far" in peak
    assert "no estimate that can be read" in time, "of a program compiled for CPU"


@pytest.mark.proofs
def test_a_checkpoint_that_comes_back_otherwise(
    examination: Examination, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state that is not from training, which would have to be compiled."""
    examination.workdir = tmp_path
    examination.state = jax.tree.map(random_array, examination.task.abstract)
    read = checkpointing.read_items

    def altered(path: Any, abstract: dict[str, Any]) -> dict[str, Any]:
        items = read(path, abstract)
        return {**items, "train": {**items["train"], "step": items["train"]["step"] + 1}}

    monkeypatch.setattr(checkpointing, "read_items", altered)
    with jax.set_mesh(examination.mesh):
        with pytest.raises(ArithmeticError, match="differs from what was written"):
            list(examination.save())
        monkeypatch.undo()
        assert "every bit is the same" in " ".join(examination.save())
    assert not os.listdir(tmp_path)


def random_array(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.device_put(jax.random.key(3), leaf.sharding)
    drawn = np.random.default_rng(leaf.size).normal(size=leaf.shape, scale=100)
    return jax.device_put(drawn.astype(leaf.dtype), leaf.sharding)


@pytest.mark.proofs
def test_a_kernel_that_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    tpu: Any = SimpleNamespace(local_devices=[SimpleNamespace(platform="tpu")])
    monkeypatch.setattr(machine, "splash", partial(splash, interpret=True))
    lines = list(machine.attention_kernel(tpu, positions=128))
    assert [line.split(":")[0] for line in lines[2:]] == [
        f"largest difference of {name}" for name in ("result", "dq", "dk", "dv")
    ]
    monkeypatch.setattr(machine, "splash", lambda q, k, v, mask: 1.1 * splash(q, k, v, mask, interpret=True))
    with pytest.raises(ArithmeticError, match="attention_kernel_from=0"):
        list(machine.attention_kernel(tpu, positions=128))


def test_a_device_that_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = make_mesh({}, jax.devices()[:1])
    monkeypatch.setattr(machine, "PEAK_FLOPS", {"cpu": 1e18})
    with pytest.raises(ArithmeticError, match="bf16 products: less than 30% of the peak"):
        list(machine.arithmetic(mesh))


def test_the_phase_must_have_a_denoiser() -> None:
    with pytest.raises(UserError, match="doctor takes a step of base or of experts"):
        Examination(get_config("autoencoder,smoke"), make_mesh({}, jax.devices()[:1]))
    # Without --config there is a default config, and its fields can be changed.
    (done,) = run_all([["doctor", "--config.phase=autoencoder"]])
    assert done.status == 1 and "doctor takes a step of base or of experts" in done.stderr


def test_sections_go_on() -> None:
    def fails():
        yield "one line"
        raise OSError("no\nsuch thing")

    def skips():
        raise sections.Skipped("not here")
        yield

    said: list[str] = []
    found = sections.run((("a", fails), ("b", skips), ("c", lambda: iter(["fine"]))), said.append)
    assert [section.verdict for section in found] == ["failed", "skipped", "passed"]
    assert found[0].lines == ("one line", "OSError: no")
    assert sections.summary(found) == "1 failed (a), 1 passed, 1 skipped (b)"
    assert said[0].startswith("### a: failed (0.0 s)\n\n- one line\n- OSError: no\n")
