"""Output and errors of `train --dry_run`: the same as of a start, without changing anything."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.sharding.mesh import abstract_mesh, make_mesh
from ernie_vilg_jax.training import lock, plan
from ernie_vilg_jax.training.plan import Devices, make_plan
from tests.commands import run_all
from tests.disks import as_nobody
from tests.tiny_run import MakeConfig

ONE = {"data": -1}


def here(memory: float | None = None) -> Devices:
    return Devices(make_mesh(ONE, jax.devices()[:1]), "cpu", memory, here=True)


def elsewhere(count: int = 4) -> Devices:
    return Devices(abstract_mesh({"data": 1, "fsdp": -1}, count), "v0", None, here=False)


def listing(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != lock.NAME}


@pytest.mark.slow
def test_a_run_that_resumes(make_config: MakeConfig, whole_run: Path) -> None:
    before = listing(whole_run)
    config = make_config("experts", **{"phases.experts.steps": 12, "phases.experts.accumulation_steps": 2})
    found = make_plan(config, whole_run, here(), allow_changes=["phases.experts"])
    assert found.rows["steps"] == "8 to 12"
    assert found.rows["goes on"].endswith("experts/checkpoints/8")
    assert found.rows["changes"] == "phases.experts.accumulation_steps"
    assert "8 images a step, 8 a device: 2 at once, expert by expert, in 2 micro-batches" in found.rows["batch"]
    # Going back would set a checkpoint aside, but not in a dry run.
    assert make_plan(make_config("experts"), whole_run, here(), resume_from=4).rows["steps"] == "4 to 8"
    assert listing(whole_run) == before


@pytest.mark.slow
def test_a_fresh_run_and_its_sizes(make_config: MakeConfig, whole_run: Path, tmp_path: Path) -> None:
    shutil.copytree(whole_run / "base", tmp_path / "base")
    found = make_plan(make_config("experts"), tmp_path, here())
    assert found.rows["begins"] == f"all parts from {tmp_path}/base/checkpoints/8"
    folder = whole_run / "experts/checkpoints/8"
    written = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert float(found.rows["checkpoint"].split()[0]) * plan.GIB == pytest.approx(written, abs=0.01 * plan.GIB)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]


def test_abstract_devices_hold_the_same_as_real_ones(make_config: MakeConfig) -> None:
    sizes = {"expert": 2, "data": 1, "fsdp": 4}
    config = make_config("experts", **{"phases.experts.batch_size": 16})
    task, other = (plan._make_task(config, mesh) for mesh in (make_mesh(sizes), abstract_mesh(sizes, 8)))
    assert rules.local_bytes(task.abstract) == rules.local_bytes(other.abstract)
    one = plan._make_task(config, abstract_mesh({}, 1))
    assert rules.local_bytes(task.abstract) < rules.local_bytes(one.abstract) / 2


def test_missing_files_of_other_machines_are_not_checked(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("base", **{"data.path": str(tmp_path / "data")})
    found = make_plan(config, tmp_path / "run", elsewhere())
    assert len(found.unchecked) == 3 and "as far as was checked" in found.text()
    with pytest.raises(UserError, match="is not a directory"):
        make_plan(config, tmp_path / "run", here())
    config.data.path = ""
    assert "--config.data.path is not given" in make_plan(config, None, here()).unchecked[0]


CHANGES = [
    ({}, "base starts from a trained autoencoder, but .* holds no checkpoint"),
    ({"phases.base.batch_size": 12, "phases.base.accumulation_steps": 5}, "batch_size=12 must be a multiple of 5"),
    ({"data.weights": {"nothing": 1.0}}, "config.data.weights names 'nothing'"),
    ({"knowledge.enabled": True}, "was not annotated"),
    ({"data.cache_latents": True, "data.crop": "random"}, "cannot go with data.crop='random'"),
    ({"phases.base.init_from": "x", "phases.base.unet_from": "y"}, "init_from brings all components"),
    ({"phases.base.unet_from": "/nowhere"}, "config.phases.base.unet_from=/nowhere: there is no such folder"),
]


@pytest.mark.parametrize(("changes", "sentence"), CHANGES)
def test_it_refuses_the_same_as_a_start(
    make_config: MakeConfig, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    config = make_config("base")
    with config.unlocked():
        for name, value in changes.items():
            section, _, field = name.rpartition(".")
            config.update_from_flattened_dict({name: value}) if section != "data" else config.data.update(
                {field: value}
            )
    with pytest.raises(UserError, match=sentence):
        make_plan(config, tmp_path / "run", here())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_it_refuses_a_run_of_other_settings_or_in_use(make_config: MakeConfig, whole_run: Path) -> None:
    with pytest.raises(UserError, match=r"seed \(0 in the checkpoint, 1 now\)"):
        make_plan(make_config("base", seed=1), whole_run, here())
    with pytest.raises(UserError, match=r"--resume_from=5: .* has no checkpoint of that step"):
        make_plan(make_config("base"), whole_run, here(), resume_from=5)
    held = make_config("base")
    with lock.locked(whole_run), pytest.raises(UserError, match="is in use by another training"):  # type: ignore[arg-type]
        make_plan(held, whole_run, here())


@pytest.mark.slow
def test_it_refuses_too_little_room(make_config: MakeConfig, whole_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"the state of base takes .* GiB of each cpu, which has 0: cut it over more"):
        make_plan(make_config("base"), whole_run, here(memory=10_000.0))
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda place: SimpleNamespace(free=10_000))
    with pytest.raises(UserError, match=r"has 0.0 GiB free, and its checkpoints need"):
        make_plan(make_config("base"), whole_run, here())


def test_it_refuses_a_place_that_cannot_be_written(make_config: MakeConfig, tmp_path: Path, open_folder: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"--workdir=.*run cannot be written: .*file is no folder"):
        make_plan(make_config("autoencoder"), tmp_path / "file" / "run", here())
    (open_folder / "closed").mkdir(mode=0o500)
    with as_nobody(), pytest.raises(UserError, match=r"--workdir=.*run cannot be written: .*closed is no folder"):
        make_plan(make_config("autoencoder", **{"data.path": ""}), open_folder / "closed" / "run", here())


@pytest.mark.slow
@pytest.mark.proofs
def test_the_command() -> None:
    paper = "--config=configs/paper.py:experts,256"
    good, bad, alone, unknown = run_all(
        [
            ["train", paper, "--dry_run", "--topology=2*v5p:4x4x4", "--config.mesh.expert=2"],
            ["train", paper, "--dry_run", "--topology=v5p:2x2x1", "--config.mesh.fsdp=1", "--config.mesh.data=4"],
            ["train", paper, "--topology=v5p:2x2x1"],
            ["train", paper, "--dry_run", "--topology=v99:2x2"],
        ]
    )
    assert good.status == 0 and "128 x v5p: expert=2, data=1, fsdp=64, tensor=1" in good.stdout, good
    sentences = (
        "the state of experts takes 339.1 GiB of each v5p, which has 95",
        "--topology=v5p:2x2x1 is for --dry_run",
        "--topology=v99:2x2 names no known chip",
    )
    for result, sentence in zip((bad, alone, unknown), sentences, strict=True):
        assert result.status == 1 and sentence in result.stderr and "Traceback" not in result.stderr, result
