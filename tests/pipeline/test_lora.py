"""Adapters joined with a model as it is loaded and exported, against sums written out."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.demo import get_config
from ernie_vilg_jax import checkpointing, pipeline
from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.finetuning.origin import Origin
from ernie_vilg_jax.interop import lora as files
from ernie_vilg_jax.interop.layout import flat
from ernie_vilg_jax.models import lora
from ernie_vilg_jax.pipeline import Pipeline
from tests.random_model import filled

TARGETS = {"expert_00": ("attn",), "expert_01": ("attn",), "text_encoder": ("qkv",)}


def settings(**changes: Any) -> ConfigDict:
    config = get_config("experts,smoke")
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, pipe: Pipeline) -> Path:
    """A bank of two experts, as training saves it."""
    path = tmp_path_factory.mktemp("base") / "8"
    items = {"autoencoder": pipe.params.autoencoder, "text_encoder": {"ema": pipe.params.text_encoder}}
    items |= {f"expert_{k:02d}": {"ema": expert} for k, expert in enumerate(pipe.params.experts)}
    items["tokenizer"] = checkpointing.pack_tokenizer(pipe.tokenizer)
    config = settings(**{"tokenizer.vocab_size": pipe.config.tokenizer.vocab_size})
    checkpointing.save_once(path, items, checkpointing.make_metadata(config, phase="experts"))
    return path


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory, base: Path, pipe: Pipeline) -> Path:
    """A checkpoint of a run that trained adapters of them, times 3 / 2."""
    path = tmp_path_factory.mktemp("adapters") / "4"
    shapes = files.network_shapes(pipe.model)
    items: dict[str, Any] = {}
    for seed, (item, targets) in enumerate(TARGETS.items()):
        of = shapes[item if item == "text_encoder" else "unet"]
        tree = jax.eval_shape(lambda of=of, targets=targets: lora.init(jax.random.key(0), of, targets, 2))
        items[item] = {"ema": filled(tree, seed, 0.3)}
    items["tokenizer"] = checkpointing.pack_tokenizer(pipe.tokenizer)
    changes = {"lora.rank": 2, "lora.alpha": 3.0, "lora.targets": ("attn",), "lora.text_targets": ("qkv",)}
    config = settings(**changes, **{"phases.experts.init_from": str(base)})
    config.tokenizer.vocab_size = pipe.config.tokenizer.vocab_size
    about = {"phase": "experts", "base": digest(checkpointing.read_metadata(checkpointing.find(base)))}
    checkpointing.save_once(path, items, checkpointing.make_metadata(config, **about))
    return path


def expected(adapters: Path, pipe: Pipeline, item: str, scale: float) -> dict[str, np.ndarray]:
    parts = {"text_encoder": pipe.params.text_encoder, "expert_00": pipe.params.experts[0]}
    leaves = {path: np.asarray(leaf) for path, leaf in flat(parts[item]).items()}
    trained = flat(checkpointing.read_whole(checkpointing.find(adapters), item)["ema"])
    for name in {path.rpartition("/")[0] for path in trained}:
        leaves[name] = leaves[name] + scale * 1.5 * (trained[f"{name}/a"] @ trained[f"{name}/b"])
    return leaves


@pytest.mark.parametrize(("how", "scale"), [("run", 1.0), ("checkpoint", -0.5), ("file", 0.5)])
def test_a_model_is_loaded_with_its_adapters(
    how: str, scale: float, base: Path, adapters: Path, pipe: Pipeline, tmp_path: Path
) -> None:
    if how == "run":
        found = pipeline.load(adapters, scale=scale)
    else:
        given: Path = adapters
        if how == "file":
            given = tmp_path / "x.safetensors"
            files.write_file(given, files.read(adapters, pipe.model), pipe.model)
        found = pipeline.load(base, lora=given, scale=scale)
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
    config = checkpointing.read_config(found, settings())
    assert not files.is_lora(config) and config.phases.experts.init_from == ""
    for item in ("text_encoder", "expert_00"):
        wanted = expected(adapters, pipe, item, 1.0)
        for path, leaf in flat(checkpointing.read_whole(found, item)["ema"]).items():
            np.testing.assert_array_equal(leaf, wanted[path].astype(np.float32).astype(jnp.bfloat16))


def test_what_cannot_be_joined_is_said(
    base: Path, adapters: Path, pipe: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="has adapters itself"):
        pipeline.load(adapters, lora=adapters)
    with pytest.raises(UserError, match="is a whole model, not adapters"):
        pipeline.load(base, lora=base)
    with pytest.raises(UserError, match="has only adapters: merge them"):
        Origin.of(str(adapters))
    monkeypatch.chdir(tmp_path)
    base_moved = base.parent / "elsewhere"
    base.rename(base_moved)
    try:
        with pytest.raises(UserError, match=r"cannot be loaded .*; name it where it is now, and these with lora"):
            pipeline.load(adapters)
        pipeline.load(base_moved, lora=adapters)
    finally:
        base_moved.rename(base)
