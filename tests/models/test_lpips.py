"""LPIPS against a computation in NumPy, written from the paper; its weights from a file; its place in training."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from configs.demo import get_config
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop.lpips import read_lpips
from ernie_vilg_jax.model import build_model
from ernie_vilg_jax.models import lpips
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.sharding.mesh import make_mesh
from ernie_vilg_jax.training.autoencoder import AutoencoderTask
from ernie_vilg_jax.training.validation import Validation

LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
"""Convolutions of torchvision's vgg16().features: place and output channels."""


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found, before = {}, 3
    for layer, width in zip(LAYERS, WIDTHS, strict=True):
        kernel = rng.standard_normal((width, before, 3, 3)) * np.sqrt(2 / (9 * before))
        found[f"features.{layer}.weight"] = kernel.astype(np.float32)
        found[f"features.{layer}.bias"] = rng.standard_normal(width).astype(np.float32) / 10
        before = width
    for block, width in enumerate((64, 128, 256, 512, 512)):
        found[f"lin{block}.model.1.weight"] = rng.random((1, width, 1, 1)).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def file(tensors: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lpips") / "lpips.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (2, 2, 32, 48, 3)).astype(np.float32)


def by_numpy(tensors: dict[str, np.ndarray], a: np.ndarray, b: np.ndarray) -> float:
    """Of two images [H, W, 3]."""

    def features(image: np.ndarray) -> list[np.ndarray]:
        x = (image - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
        x, found = x.transpose(2, 0, 1), []
        for layer in LAYERS:
            if layer in (5, 10, 17, 24):
                found.append(x)
                c, h, w = x.shape
                x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(c, h // 2, 2, w // 2, 2).max((2, 4))
            kernel, (_, h, w) = tensors[f"features.{layer}.weight"], x.shape
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
            x = np.einsum("ihwyx,oiyx->ohw", windows, kernel, optimize=True)
            x = np.maximum(x + tensors[f"features.{layer}.bias"][:, None, None], 0)
            assert x.shape[1:] == (h, w)
        return [*found, x]

    total = 0.0
    for block, (first, second) in enumerate(zip(features(a), features(b), strict=True)):
        first, second = (one / (np.sqrt((one**2).sum(0)) + 1e-10) for one in (first, second))
        weight = tensors[f"lin{block}.model.1.weight"].reshape(-1)
        total += float(np.tensordot(weight, (first - second) ** 2, 1).mean())
    return total


def test_it_matches_the_paper(tensors: dict[str, np.ndarray], file: Path, images: np.ndarray) -> None:
    params = read_lpips(str(file))
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda leaf: leaf.shape, lpips.shapes())
    found = lpips.distance(params, jnp.asarray(images[0]), jnp.asarray(images[1]))
    expected = [by_numpy(tensors, a, b) for a, b in zip(*images.astype(np.float64), strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert min(expected) > 0.1


@pytest.mark.slow
def test_equal_images_have_distance_zero_and_a_finite_gradient(file: Path, images: np.ndarray) -> None:
    params = read_lpips(str(file))
    both = jax.jit(jax.value_and_grad(lambda x, y, params: lpips.distance(params, x, y).sum()))
    image, black = jnp.asarray(images[0, :1, :16, :16]), jnp.zeros((1, 16, 16, 3))
    for one in (image, black):
        value, gradient = both(one, one, params)
        assert float(value) == 0 and np.isfinite(np.asarray(gradient)).all()
    value, gradient = both(image, black, params)
    assert float(value) > 0 and np.asarray(gradient).any()
    _, gradient = both(jnp.ones_like(black), black, jax.tree.map(jnp.zeros_like, params))
    assert np.isfinite(np.asarray(gradient)).all()


def test_a_file_without_them_is_one_sentence(tensors: dict[str, np.ndarray], tmp_path: Path) -> None:
    lacking = {name: tensor for name, tensor in tensors.items() if name != "lin3.model.1.weight"}
    save_file(lacking, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"perceptual_weights=\S+: tensor lin3.model.1.weight must have .*missing"):
        read_lpips(str(tmp_path / "a.safetensors"))


@pytest.mark.slow
@pytest.mark.proofs
def test_training_adds_it_to_the_loss_and_keeps_it_out_of_checkpoints(file: Path) -> None:
    config = get_config("autoencoder,smoke")
    config.phases.autoencoder.batch_size = 2
    model, mesh = build_model(config), make_mesh({"data": 1}, jax.devices()[:1])
    params = read_lpips(str(file))
    rng = np.random.default_rng(0)
    batch = rules.to_devices({"image": rng.integers(0, 256, (2, 16, 16, 3), np.uint8)}, mesh, 2)

    with jax.set_mesh(mesh):
        task = AutoencoderTask(config, model, mesh, Validation(0, {}, {}), params)
        state = task.init(jax.random.key(0))
        assert set(task.items(state)) == {"train", "autoencoder"}
        assert "perceptual" not in task.items(state)["autoencoder"]
        again = task.state(task.items(state))
        assert jax.tree.structure(again) == jax.tree.structure(state)
        state, metrics = task.train_step(state, batch)
        _, more = task.train_step(state, batch)
    section, found = config.phases.autoencoder, {name: float(metrics[name]) for name in ("l1", "mse", "kl", "lpips")}
    weights = section.l1_weight, section.l2_weight, section.kl_weight, section.perceptual_weight
    parts = [weight * value for weight, value in zip(weights, found.values(), strict=True)]
    assert float(metrics["loss"]) == pytest.approx(sum(parts), rel=1e-5) and parts[-1] > 0.01 * sum(parts)
    assert float(more["lpips"]) > 0
