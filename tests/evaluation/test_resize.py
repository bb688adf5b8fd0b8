"""Resizing against clean-fid and torch-fidelity, down, up and to the same size."""

import numpy as np
import pytest
import torch

from ernie_vilg_jax.evaluation import resize
from tests import feature_models

SIZES = pytest.mark.parametrize("size", [(299, 299), (64, 64), (512, 512), (300, 201), (1, 7)], ids=str)


@SIZES
def test_clean_is_clean_fid(size: tuple[int, int]) -> None:
    make_resizer = pytest.importorskip("cleanfid.resize").make_resizer
    image = feature_models.images(size)[0]
    expected = make_resizer("PIL", False, "bicubic", (299, 299))(image)
    found = resize.clean(image, 299)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
    if min(size) > 7 and size != (299, 299):
        assert np.abs(found - np.rint(found)).max() > 0.4, "nothing is rounded"


@SIZES
def test_tensorflow_is_torch_fidelity(size: tuple[int, int]) -> None:
    image = feature_models.images(size)[0]
    resized = feature_models.torch_fidelity("interpolate_compat_tensorflow").interpolate_bilinear_2d_like_tensorflow1x
    tensor = torch.from_numpy(image.transpose(2, 0, 1)[None]).float()
    expected = resized(tensor, size=(299, 299), align_corners=False)[0].numpy().transpose(1, 2, 0)
    found = resize.tensorflow(image, 299)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.shape == (299, 299, 3) and found.dtype == np.float32
