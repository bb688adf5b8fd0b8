"""FID from pictures to the number, against torch-fidelity's: both ends, with one network of random weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ernie_vilg_jax.evaluation import metrics
from ernie_vilg_jax.evaluation.image_sets import Files, OfPrompts
from ernie_vilg_jax.evaluation.metrics import Evidence, Reference
from ernie_vilg_jax.evaluation.networks import make_network
from ernie_vilg_jax.pipeline.prompts import Prompt
from tests import feature_models, inception_in_torch


def draw(folder: Path, seed: int, shade: float) -> Files:
    """Six images of blurred noise."""
    folder.mkdir()
    for number, image in enumerate(feature_models.images(*[(40, 40)] * 6, seed=seed)):
        Image.fromarray((image * shade).astype(np.uint8)).save(folder / f"{number}.png")
    return Files(tuple(folder / f"{number}.png" for number in range(6)))


@pytest.mark.hosts
@pytest.mark.slow
def test_fid_from_pictures_equals_torch_fidelity(tmp_path: Path) -> None:
    state: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        inception_in_torch.features(torch.zeros(1, 3, 75, 75), state)
    torch.save(state, tmp_path / "weights.pth")
    made, real = draw(tmp_path / "made", 0, 1.0), draw(tmp_path / "real", 1, 0.8)

    networks = {
        "inception": make_network("inception", path=str(tmp_path / "weights.pth"), resize="tensorflow", batch_size=6)
    }
    prompts = (Prompt("0", "a", "en"),)
    evidence = Evidence(OfPrompts(made, prompts, np.zeros(6, int)), Reference(real, networks), networks)
    (score,) = metrics.judge(["fid"], evidence)

    fid = feature_models.torch_fidelity("metric_fid")
    network = feature_models.inception()
    torch.nn.Module.load_state_dict(network, state)

    def theirs(images: Files) -> dict[str, np.ndarray]:
        tensors: Sequence[torch.Tensor] = [
            torch.from_numpy(np.asarray(Image.open(file)).transpose(2, 0, 1).copy()) for file in images.files
        ]
        return fid.fid_features_to_statistics(network(torch.stack(list(tensors)))[0])

    expected = fid.fid_statistics_to_metric(theirs(made), theirs(real), False)["frechet_inception_distance"]
    assert score.value == pytest.approx(expected, rel=1e-3)
