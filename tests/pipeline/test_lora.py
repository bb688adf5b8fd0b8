"""Adapters joined with a model as it is loaded and exported, against sums written out."""

import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax import checkpointing, pipeline
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.finetuning.origin import Origin
from ernie_vilg_jax.interop import lora as files
from ernie_vilg_jax.interop.layout import flat
from ernie_vilg_jax.pipeline import Pipeline
from tests.random_model import trained


def expected(adapters: Path, pipe: Pipeline, item: str, scale: float) -> dict[str, np.ndarray]:
    parts = {"text_encoder": pipe.params.text_encoder, "expert_00": pipe.params.experts[0]}
    leaves = {path: np.asarray(leaf) for path, leaf in flat(parts[item]).items()}
    trained = flat(checkpointing.read_whole(checkpointing.find(adapters), item)["ema"])
    for name in {path.rpartition("/")[0] for path in trained}:
        leaves[name] = leaves[name] + scale * 1.5 * (trained[f"{name}/a"] @ trained[f"{name}/b"])
    return leaves


@pytest.mark.parametrize(("how", "scale"), [("run", 1.0), ("checkpoint", -0.5), ("file", 0.5)])
def test_a_model_is_loaded_with_its_adapters(
    how: str, scale: float, bank: Path, adapters: Path, pipe: Pipeline, tmp_path: Path
) -> None:
    if how == "run":
        found = pipeline.load(adapters, scale=scale)
    else:
        given: Path = adapters
        if how == "file":
            given = tmp_path / "x.safetensors"
            files.write_file(given, files.read(adapters, pipe.model), pipe.model)
        found = pipeline.load(bank, lora=given, scale=scale)
    for item, params in (("text_encoder", found.params.text_encoder), ("expert_00", found.params.experts[0])):
        wanted = expected(adapters, pipe, item, scale)
        for path, leaf in flat(params).items():
            np.testing.assert_allclose(np.asarray(leaf), wanted[path], rtol=1e-5, atol=1e-6)


def test_streamed_experts_get_theirs_when_they_are_read(adapters: Path, pipe: Pipeline) -> None:
    found = pipeline.load(adapters, mode="streamed")
    read: Any = found.params.experts[0]
    wanted = expected(adapters, pipe, "expert_00", 1.0)
    for path, leaf in flat(read()).items():
        np.testing.assert_allclose(np.asarray(leaf), wanted[path], atol=1e-6)


def test_an_export_needs_nothing_else(adapters: Path, pipe: Pipeline, tmp_path: Path) -> None:
    pipeline.export(adapters, tmp_path / "merged")
    found = checkpointing.find(tmp_path / "merged")
    config = checkpointing.read_config(found, trained())
    assert not files.is_lora(config) and config.phases.experts.init_from == ""
    for item in ("text_encoder", "expert_00"):
        wanted = expected(adapters, pipe, item, 1.0)
        for path, leaf in flat(checkpointing.read_whole(found, item)["ema"]).items():
            np.testing.assert_array_equal(leaf, wanted[path].astype(np.float32).astype(jnp.bfloat16))


def test_a_folder_that_holds_the_file_means_it(bank: Path, adapters: Path, pipe: Pipeline, tmp_path: Path) -> None:
    shutil.copytree(bank, tmp_path / "both")  # as in a repository of the hub
    written = files.read(adapters, pipe.model)
    files.write_file(tmp_path / "both" / files.FILE, written, pipe.model)
    found = files.read(tmp_path / "both", pipe.model)
    assert found.trees.keys() == written.trees.keys() and found.base == written.base


def test_what_cannot_be_joined_is_said(
    bank: Path, adapters: Path, pipe: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="has adapters itself"):
        pipeline.load(adapters, lora=adapters)
    with pytest.raises(UserError, match="is a whole model, not adapters"):
        pipeline.load(bank, lora=bank)
    with pytest.raises(UserError, match="has only adapters: merge them"):
        Origin.of(str(adapters))
    monkeypatch.chdir(tmp_path)
    moved = bank.parent / "elsewhere"
    bank.rename(moved)
    try:
        with pytest.raises(UserError, match=r"cannot be loaded .*; name it where it is now, and these with lora"):
            pipeline.load(adapters)
        pipeline.load(moved, lora=adapters)
    finally:
        moved.rename(bank)
