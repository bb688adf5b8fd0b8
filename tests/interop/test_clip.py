"""CLIP and Chinese-CLIP against transformers; folders that are something else."""

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop.clip import read_clip
from tests import feature_models
from tests.feature_models import END

LENGTHS = (9, 5, 2)


def tokens_and_mask(end: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts of LENGTHS tokens, the last of them `end`."""
    tokens = np.random.default_rng(0).integers(1, 15, (len(LENGTHS), max(LENGTHS)))
    mask = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    tokens[np.arange(len(LENGTHS)), np.array(LENGTHS) - 1] = end
    return np.where(mask, tokens, pad), mask


def assert_same(found: Any, expected: torch.Tensor) -> None:
    unit = expected.numpy() / np.linalg.norm(expected.numpy(), axis=1, keepdims=True)
    assert np.ptp(unit, axis=0).max() > 0.1
    np.testing.assert_allclose(found, unit, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "options", "end", "pad"),
    [
        ("clip", {}, END, END),
        ("clip", {"activation": "gelu"}, END, 0),  # as converted from OpenCLIP
        ("clip", {"eos_token_id": 2}, END, END),  # what older configs say
        ("chinese_clip", {}, 3, 0),
    ],
)
def test_both_towers_match_transformers(tmp_path: Path, kind: str, options: dict[str, Any], end: int, pad: int) -> None:
    model = getattr(feature_models, kind)(tmp_path, **options)
    module, params = read_clip(tmp_path)
    pixels = np.random.default_rng(1).standard_normal((3, 28, 28, 3)).astype(np.float32)
    tokens, mask = tokens_and_mask(end, pad)
    with torch.no_grad():
        images = model.get_image_features(torch.from_numpy(pixels.transpose(0, 3, 1, 2))).pooler_output
        texts = model.get_text_features(torch.from_numpy(tokens), torch.from_numpy(mask).long()).pooler_output
    both = {"params": params}
    assert_same(jax.jit(lambda x: module.apply(both, x, method="images"))(pixels), images)
    assert_same(jax.jit(lambda *x: module.apply(both, *x, method="texts"))(tokens, mask), texts)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {kind: tmp_path_factory.mktemp(kind) for kind in ("clip", "chinese_clip", "dino")}
    for kind, folder in made.items():
        getattr(feature_models, kind)(folder)
    return made


VISION, TEXT = "vision_model.encoder.layers.1.mlp.fc1.bias", "text_model.encoder.layers.1.mlp.fc1.bias"
BERT = "text_model.encoder.layer.1.output.dense.bias"


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("clip", {VISION: None}, f"is not the CLIP of its config.json: it lacks {VISION}"),
        ("clip", {TEXT: None}, f"is not the CLIP of its config.json: it lacks {TEXT}"),
        ("clip", {VISION: 7}, rf"tensor {VISION} is \[7\], but should be \[48\] in the CLIP of its config.json"),
        ("clip", {"visual_projection.weight": None}, "it lacks visual_projection.weight"),
        ("clip", {"vision_model.more": 7}, "it has vision_model.more, which it should not have"),
        ("chinese_clip", {BERT: None}, rf"\(text_model\.\*\) is not the text encoder .* {BERT.partition('.')[2]}"),
        ("chinese_clip", {VISION: None}, f"it lacks {VISION}"),
    ],
)
def test_missing_and_misshapen_tensors(
    folders: dict[str, Path], tmp_path: Path, kind: str, changes: dict[str, int | None], message: str
) -> None:
    folder = shutil.copytree(folders[kind], tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    for name, size in changes.items():
        tensors.pop(name, None)
        if size:
            tensors[name] = np.zeros(size, np.float32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=rf"{folder}.*{message}"):
        read_clip(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "model_type='bert': give the folder that save_pretrained of CLIPModel or Chinese"),
        ({"vision_config": {"hidden_act": "silu"}}, "hidden_act='silu', but supported are only"),
        ({"vision_config": {"hidden_size": "wide"}}, "its config.json is not that of a network"),
        ({"vision_config": {"num_attention_heads": 5, "hidden_size": 32}}, r"32\) is not a multiple of .* heads \(5\)"),
    ],
)
def test_configs_of_something_else(
    folders: dict[str, Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = shutil.copytree(folders["clip"], tmp_path / "model")
    feature_models.change_config(folder, **changes)
    with pytest.raises(UserError, match=rf"{folder}: .*{message}"):
        read_clip(folder)


def test_wrong_kinds_of_folder(folders: dict[str, Path], tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "nowhere", "is missing: give the folder"),
        (folders["clip"] / "model.safetensors", "is a file: give the folder"),
        (tmp_path, r"has no config\.json: give the folder"),
        (folders["dino"], "has model_type='dinov2': give the folder"),
    ):
        with pytest.raises(UserError, match=rf"^{path}.* {message}"):
            read_clip(path)
    (tmp_path / "config.json").write_text((folders["clip"] / "config.json").read_text())
    with pytest.raises(UserError, match="has no safetensors file"):
        read_clip(tmp_path)
