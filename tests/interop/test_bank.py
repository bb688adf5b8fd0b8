"""Experts of separate runs are merged into one bank: the command, and the real `train`."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from etils import epath

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.pipeline import load
from tests.interop.bank_jobs import (
    EXPERTS,
    SHARED,
    STEPS,
    Jobs,
    assert_close,
    assert_equal,
    command,
    item,
    picture,
    same_samples,
)
from tests.tiny_run import train


@pytest.mark.slow
@pytest.mark.proofs
def test_every_item_is_that_of_its_run(jobs: Jobs, merged: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = checkpointing.find(merged)
    with caplog.at_level(logging.WARNING, "absl"):
        load(merged)
    assert not caplog.records, "Orbax reads it like one that it wrote"
    assert found == epath.Path(merged / "experts" / "checkpoints" / str(STEPS))
    assert checkpointing.item_names(found) == sorted((*EXPERTS, *SHARED, "train"))
    for name, run in zip(EXPERTS, (jobs.first, jobs.second), strict=True):
        assert_equal(item(merged, name), item(run, name))
        assert set(item(merged, name)) == {"ema", "params", "opt"}
    for name in SHARED:
        assert_equal(item(merged, name), item(jobs.first, name))
    assert [path.name for path in (merged / "experts").iterdir()] == ["checkpoints"]
    metadata = checkpointing.read_metadata(found)
    assert metadata["config"]["experts"]["train"] == []
    assert metadata["examples"] == 4 * STEPS
    assert [run["experts"] for run in metadata["merged"]] == [[0], [1]]


@pytest.mark.slow
@pytest.mark.proofs
def test_training_one_expert_changes_nothing_else(jobs: Jobs, whole_run: Path) -> None:
    names = checkpointing.item_names(checkpointing.find(jobs.second))
    assert [name for name in names if name.startswith("expert")] == ["expert_01"]
    assert_equal(item(jobs.second, "text_encoder")["ema"], item(whole_run / "base", "text_encoder")["ema"])


@pytest.mark.hosts
@pytest.mark.slow
def test_experts_trained_apart_are_those_trained_together(together: Path, merged: Path, whole_run: Path) -> None:
    for name in EXPERTS:
        assert_close(item(merged, name)["params"], item(together, name)["params"])
    np.testing.assert_allclose(picture(merged), picture(together), atol=1)
    assert np.abs(picture(merged) - picture(whole_run / "base")).max() > 1, "nothing was trained"


@pytest.mark.hosts
@pytest.mark.slow
def test_training_of_the_whole_bank_continues(
    together: Path, merged: Path, job_config: Callable[..., Any], pictures: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """The same as a run that trained both: averages, moments and step counts were copied."""
    ends = []
    for name, start in (("merged", merged), ("together", together)):
        workdir = shutil.copytree(start / "experts", tmp_path / name / "experts").parent
        config = job_config(**{"phases.experts.steps": STEPS + 2, "phases.experts.batch_size": 8})
        with same_samples(pictures):
            state = train(config, workdir, own_programs=True, allow_changes=["phases.experts.batch_size"])
        assert int(state["step"]) == STEPS + 2
        ends.append(state["experts"])
    assert_close(*ends)


@pytest.mark.hosts
@pytest.mark.slow
def test_runs_at_different_steps(
    jobs: Jobs,
    whole_run: Path,
    job_config: Callable[..., Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The merged run has the smaller step, each optimizer keeps its own; no example is repeated."""
    ahead = shutil.copytree(jobs.second, tmp_path / "ahead")
    train(job_config(1, **{"phases.experts.steps": STEPS + 3, "seed": 7}), ahead, allow_changes=["seed"])
    with caplog.at_level(logging.WARNING, "absl"):
        command("merge", ahead, jobs.first, tmp_path / "merged")
    told = f"(expert_01 at step {STEPS + 3}, expert_00 at step {STEPS}); the merged run resumes from step {STEPS}"
    assert any(told in record.message for record in caplog.records)
    found = checkpointing.find(tmp_path / "merged")
    metadata = checkpointing.read_metadata(found)
    assert found.name == str(STEPS) and metadata["config"]["seed"] == 0
    assert metadata["examples"] == 4 * (STEPS + 3)
    assert [(run["experts"], run["step"]) for run in metadata["merged"]] == [([1], STEPS + 3), ([0], STEPS)]
    assert_equal(item(tmp_path / "merged", "expert_01"), item(ahead, "expert_01"))
    state = train(job_config(**{"phases.experts.steps": STEPS + 1}), tmp_path / "merged")
    assert int(state["step"]) == STEPS + 1


def settle(jobs: Jobs, workdir: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """The second job with other items or metadata, as a checkpoint of its own."""
    found = checkpointing.find(jobs.second)
    names = [name for name in checkpointing.item_names(found) if name != "train"]
    items = {name: checkpointing.read_whole(found, name) for name in names}
    items["train"] = {"step": np.full((), STEPS, np.int32), "key": jax.random.key(0)}
    metadata = checkpointing.read_metadata(found)
    change(items, metadata)
    checkpointing.save_once(workdir / "experts" / "checkpoints" / str(STEPS), items, metadata)
    return workdir


def other_setting(field: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(items: dict[str, Any], metadata: dict[str, Any]) -> None:
        *sections, name = field.split(".")
        values = metadata["config"]
        for section in sections:
            values = values[section]
        values[name] = value

    return change


def other_data(items: dict[str, Any], metadata: dict[str, Any]) -> None:
    metadata["data"] = "another fingerprint"


def other_number(*path: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """One bit of one array of an item."""

    def change(items: dict[str, Any], metadata: dict[str, Any]) -> None:
        leaf = jax.tree.leaves(items[path[0]][path[1]])[0]
        leaf.view(np.uint32).reshape(-1)[0] ^= 1

    return change


def other_tokenizer(items: dict[str, Any], metadata: dict[str, Any]) -> None:
    settings = items["tokenizer"]["tokenizer.json"].tobytes().replace(b'"max_length": 16', b'"max_length": 15')
    items["tokenizer"]["tokenizer.json"] = np.frombuffer(settings, np.uint8)


def averages_alone(items: dict[str, Any], metadata: dict[str, Any]) -> None:
    del items["train"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            other_setting("phases.experts.learning_rate", 0.5),
            r"different settings: phases.experts.learning_rate \(0.*5",
        ),
        (
            other_setting("diffusion.beta_end", 0.5),
            r"different settings: diffusion.beta_end \(0.02 and 0.5\); .* again",
        ),
        (other_setting("experts.stages", "log_snr"), r"experts.stages \('uniform' and 'log_snr'\)"),
        (other_setting("experts.n", 3), r"experts.n \(2 and 3\)"),
        (other_data, r"different settings: data \(other records\)"),
        (other_setting("experts.train_text_encoder", True), "trained its text encoder .*train all experts in one run"),
        (other_number("autoencoder", "params"), "differ in the autoencoder: .* from the other's base"),
        (other_number("text_encoder", "ema"), "differ in the text encoder: .* from the other's base"),
        (other_tokenizer, "differ in the tokenizer: .* from the other's base"),
        (averages_alone, "holds only averages, as `checkpoint export` writes them: merge the runs themselves"),
    ],
)
@pytest.mark.proofs
def test_runs_that_do_not_fit_together(change: Any, message: str, jobs: Jobs, tmp_path: Path) -> None:
    other = settle(jobs, tmp_path / "other", change)
    with pytest.raises(UserError, match=message) as caught:
        command("merge", jobs.first, other, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "experts").exists()


@pytest.mark.slow
@pytest.mark.proofs
def test_other_paths_seeds_and_machines_do_fit(jobs: Jobs, tmp_path: Path) -> None:
    free = {"data.path": "/elsewhere", "seed": 3, "mesh.fsdp": 4, "train.log_every": 1, "phases.experts.batch_size": 12}

    def change(items: dict[str, Any], metadata: dict[str, Any]) -> None:
        for field, value in free.items():
            other_setting(field, value)(items, metadata)

    command("merge", jobs.first, settle(jobs, tmp_path / "other", change), tmp_path / "out")
    assert len(load(tmp_path / "out").params.experts) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{first}", "{merged}", "{out}"), "expert_00 is in .*first.* and in .*merged.*: leave out one of the two"),
        (("{first}", "{first}", "{out}"), "expert_00 is in .*first.* and in .*first.*: leave out one of the two"),
        (("{first}", "{base}", "{out}"), "is from the phase base; merge joins runs of experts"),
        (("{first}", "/nowhere", "{out}"), "/nowhere: there is no such folder"),
        (("{first}", "{second}", "{first}"), "first.*experts is not empty; name another folder, or give --overwrite"),
        (("{first}", "{out}"), "say .*`merge RUN RUN ... OUTPUT`"),
        (("{first}", "{second}", "{merged}/experts/checkpoints/4"), "is a checkpoint, but a run is to be"),
    ],
)
@pytest.mark.proofs
def test_runs_that_cannot_be_merged(
    words: tuple[str, ...], message: str, jobs: Jobs, merged: Path, whole_run: Path, tmp_path: Path
) -> None:
    places = {**jobs._asdict(), "merged": merged, "base": whole_run / "base", "out": tmp_path / "out"}
    with pytest.raises(UserError, match=message) as caught:
        command("merge", *(word.format(**places) for word in words))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.proofs
def test_an_expert_that_nobody_trained(jobs: Jobs, tmp_path: Path) -> None:
    three = other_setting("experts.n", 3)
    one = settle(jobs, tmp_path / "one", three)

    def renamed(items: dict[str, Any], metadata: dict[str, Any]) -> None:
        three(items, metadata)
        items["expert_02"] = items.pop("expert_01")

    two = settle(jobs, tmp_path / "two", renamed)
    with pytest.raises(UserError, match=r"holds expert_00: .* '--config\.experts\.train=\(0,\)'$"):
        command("merge", one, two, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.proofs
def test_a_damaged_expert_is_found_before_anything_is_there(jobs: Jobs, tmp_path: Path) -> None:
    damaged = shutil.copytree(jobs.second, tmp_path / "damaged")
    for file in Path(checkpointing.find(damaged) / "expert_01").rglob("*"):
        if file.is_file() and file.stat().st_size > 2000:
            file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"checkpoint .*damaged/experts/checkpoints/4 cannot be read"):
        command("merge", jobs.first, damaged, tmp_path / "out")
    assert not (tmp_path / "out" / "experts").exists()


@pytest.mark.slow
@pytest.mark.proofs
def test_runs_without_checksums_get_them(jobs: Jobs, tmp_path: Path) -> None:
    """Version 0.1 wrote no checksums."""
    old = shutil.copytree(jobs.second, tmp_path / "old")
    file = Path(checkpointing.find(old) / "_CHECKPOINT_METADATA")
    described = json.loads(file.read_text())
    for name in ("checksums", "digest", "step", "examples"):
        del described["custom_metadata"][name]
    file.write_text(json.dumps({**described, "custom_metadata": {**described["custom_metadata"], "format": 1}}))
    command("merge", old, jobs.first, tmp_path / "out")
    metadata = [checkpointing.read_metadata(checkpointing.find(run)) for run in (tmp_path / "out", jobs.second)]
    assert metadata[0]["examples"] == 4 * STEPS
    assert metadata[0]["checksums"].keys() == {*EXPERTS, *SHARED, "train"}
    for name in ("expert_01", "train", "text_encoder"):
        assert metadata[0]["checksums"][name] == metadata[1]["checksums"][name]


@pytest.mark.slow
@pytest.mark.proofs
def test_overwriting_replaces_the_experts_alone(jobs: Jobs, whole_run: Path, tmp_path: Path) -> None:
    """A bank may be written into the run whose base its experts began from."""
    workdir = shutil.copytree(whole_run, tmp_path / "run")
    command("merge", jobs.first, jobs.second, workdir, overwrite=True)
    assert sorted(path.name for path in workdir.iterdir() if path.is_dir()) == ["autoencoder", "base", "experts"]
    assert checkpointing.steps(epath.Path(workdir / "experts" / "checkpoints")) == [STEPS]
    with pytest.raises(UserError, match="which --overwrite would remove"):
        command("merge", jobs.first, jobs.second, jobs.first, overwrite=True)


@pytest.mark.slow
@pytest.mark.proofs
def test_other_experts_in_the_same_workdir(jobs: Jobs, merged: Path, job_config: Callable[..., Any]) -> None:
    message = (
        r"trains expert_00, but --config.experts.train=\(1,\) asks for expert_01: train those in another --workdir, "
        r".*`python -m ernie_vilg_jax.checkpoint merge`"
    )
    with pytest.raises(UserError, match=message):
        train(job_config(1, **{"phases.experts.steps": STEPS + 1}), jobs.first)
    message = r"trains expert_00, but --config.experts.train=\(\) asks for expert_00, expert_01"
    with pytest.raises(UserError, match=message):
        train(job_config(**{"phases.experts.steps": STEPS + 1}), jobs.first)
    with pytest.raises(UserError, match=r"trains expert_00, expert_01, but --config.experts.train=\(1,\) asks"):
        train(job_config(1, **{"phases.experts.steps": STEPS + 1}), merged)
