"""FID's InceptionV3 against torch-fidelity's, and what is no such file."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop.inception import read_inception
from ernie_vilg_jax.models.inception import Inception
from tests import feature_models, inception_in_torch


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Random weights, with the names of the published file."""
    drawn: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        inception_in_torch.features(torch.zeros(1, 3, 75, 75), drawn)
    return drawn


def features(image: np.ndarray, state: dict[str, torch.Tensor]) -> np.ndarray:
    with torch.no_grad():
        return inception_in_torch.features(torch.from_numpy(image.transpose(2, 0, 1)[None].copy()), state).numpy()


def test_it_matches_the_reference(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pth")
    params = read_inception(tmp_path / "a.pth")
    image = feature_models.images((299, 299))[0]  # of this size nothing is resized
    expected = features(image, state)
    found = jax.jit(Inception().apply)({"params": params}, image[None].astype(np.float32))
    assert expected.std() > 1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).mean())

    save_file(state, tmp_path / "a.safetensors")
    jax.tree.map(np.testing.assert_array_equal, read_inception(tmp_path / "a.safetensors"), params)


def test_the_reference_is_torch_fidelity(state: dict[str, torch.Tensor]) -> None:
    network = feature_models.inception()
    torch.nn.Module.load_state_dict(network, state)
    image = feature_models.images((299, 299))[0]
    expected = network(torch.from_numpy(image.transpose(2, 0, 1)[None].copy()))[0].numpy()
    np.testing.assert_allclose(features(image, state), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fc.weight": torch.zeros(1000, 2048)},
            r"its classifier fc\.weight is \[1000, 2048\], so it is another InceptionV3 than FID is defined with",
        ),
        ({"fc.bias": None}, r"is not FID's InceptionV3 \(pt_inception-2015-12-05-6726825d\.pth .*it lacks fc\.bias"),
        ({"Mixed_7c.branch_pool.bn.running_var": None}, r"it lacks Mixed_7c\.branch_pool\.bn\.running_var"),
        ({"Mixed_5b.branch1x1.conv.weight": torch.zeros(64, 192, 3, 3)}, r"weight is \[64, 192, 3, 3\], but should be"),
        (
            {"Conv2d_1a_3x3.bn.bias": torch.zeros(31)},
            r"Conv2d_1a_3x3\.bn\.bias is \[31\], but should be \[32\]",
        ),
        ({"AuxLogits.fc.bias": torch.zeros(1008)}, r"it has AuxLogits\.fc\.bias, which it should not have"),
        ({"Conv2d_1a_3x3.bn.weight": torch.full((32,), torch.nan)}, "has NaN or infinite numbers"),
    ],
)
def test_other_files_are_one_sentence(
    state: dict[str, torch.Tensor], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    changed = {name: tensor for name, tensor in {**state, **changes}.items() if tensor is not None}
    torch.save(changed, tmp_path / "a.pth")
    with pytest.raises(UserError, match=rf"a\.pth.*{message}"):
        read_inception(tmp_path / "a.pth")


def test_a_missing_file() -> None:
    with pytest.raises(UserError, match=r"nowhere\.pth does not exist: give FID's InceptionV3 \(pt_inception"):
        read_inception("nowhere.pth")
