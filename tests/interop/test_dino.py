"""DINOv2 against transformers, at the size of its positions and at others; folders that are something else."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop.dino import read_dino
from tests import feature_models


@pytest.mark.parametrize("size", [35, 21, 56])
@pytest.mark.parametrize("gated", [False, True])
def test_it_matches_transformers(tmp_path: Path, size: int, gated: bool) -> None:
    model = feature_models.dino(tmp_path, use_swiglu_ffn=gated)
    module, params = read_dino(tmp_path, size)
    pixels = np.random.default_rng(0).standard_normal((3, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(pixels.transpose(0, 3, 1, 2))).pooler_output.numpy()
    np.testing.assert_allclose(jax.jit(module.apply)({"params": params}, pixels), expected, rtol=1e-4, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 0.1


def test_published_names_are_read(tmp_path: Path) -> None:
    """transformers has changed the names of its modules; those of files have stayed."""
    feature_models.dino(tmp_path)
    names = set(load_file(tmp_path / "model.safetensors"))
    assert {"encoder.layer.0.attention.attention.query.weight", "encoder.layer.1.layer_scale2.lambda1"} <= names


LAYER = "encoder.layer.1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {f"{LAYER}.layer_scale1.lambda1": None},
            rf"is not the DINOv2 of .*it lacks {LAYER}\.layer_scale1",
        ),
        ({"embeddings.cls_token": None}, r"it lacks embeddings\.cls_token"),
        (
            {"embeddings.position_embeddings": (1, 5, 32)},
            r"is \[1, 5, 32\], but should be \[26, 32\]",
        ),
        ({f"{LAYER}.mlp.fc1.bias": (3,)}, r"fc1\.bias is \[3\], but should be \[128\] in the DINOv2 of its config"),
        ({"more": (3,)}, "it has more, which it should not have"),
    ],
)
def test_missing_and_misshapen_tensors(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    feature_models.dino(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for name, shape in changes.items():
        tensors.pop(name, None)
        if shape:
            tensors[name] = np.zeros(shape, np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=rf"{tmp_path}.*{message}"):
        read_dino(tmp_path, 35)


@pytest.mark.parametrize(
    ("changes", "size", "message"),
    [
        ({"model_type": "dinov2_with_registers"}, 35, "model_type='dinov2_with_registers': give the folder that"),
        ({"qkv_bias": False}, 35, "qkv_bias=false, and only true is supported"),
        ({"image_size": [35, 28]}, 35, "sizes of images or patches that are not whole numbers"),
        ({"num_attention_heads": 5}, 35, "the sizes in its config.json do not fit each other"),
        ({}, 36, "size=36 must be a multiple of 7, the patch size of"),
        ({}, 0, "size=0 must be a multiple of 7"),
    ],
)
def test_configs_of_something_else(tmp_path: Path, changes: dict[str, Any], size: int, message: str) -> None:
    feature_models.dino(tmp_path)
    feature_models.change_config(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        read_dino(tmp_path, size)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.pth is a file: give the folder that save_pretrained of Dinov2Model wrote"):
        read_dino(tmp_path / "a.pth", 35)
