"""Feature networks from their names to features: against transformers, in batches, on a mesh; what is refused."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
import transformers
from jax.sharding import NamedSharding, PartitionSpec
from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation import resize
from ernie_vilg_jax.evaluation.networks import NETWORKS, make_network
from ernie_vilg_jax.interop import efficientnet
from ernie_vilg_jax.sharding.mesh import make_mesh
from tests import feature_models, inception_in_torch

IMAGES = feature_models.images((40, 60), (28, 28), (91, 33), (30, 30), (64, 48))
ENGLISH = ["a cat", "red dog left", "a b c d e f g h i j k l", ""]
CHINESE = ["一只红色的猫", "蓝狗在左边", "猫" * 80, ""]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: tmp_path_factory.mktemp(kind) for kind in ("clip", "chinese_clip", "dino")}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Any]:
    return {kind: getattr(feature_models, kind)(folder) for kind, folder in folders.items()}


def unit(x: torch.Tensor) -> np.ndarray:
    return (x / x.norm(dim=-1, keepdim=True)).numpy()


@pytest.mark.parametrize(("kind", "texts", "length"), [("clip", ENGLISH, 9), ("chinese_clip", CHINESE, 52)])
def test_clip_from_images_and_texts(
    folders: dict[str, Path], models: dict[str, Any], kind: str, texts: list[str], length: int
) -> None:
    folder, model = folders[kind], models[kind]
    network: Any = make_network("clip", path=str(folder), batch_size=3)
    process = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokenise = transformers.AutoTokenizer.from_pretrained(folder)
    pixels = process([Image.fromarray(image) for image in IMAGES], return_tensors="pt")
    tokens = tokenise(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
    with torch.no_grad():
        images = unit(model.get_image_features(**pixels).pooler_output)
        words = unit(model.get_text_features(**tokens).pooler_output)
    np.testing.assert_allclose(network(IMAGES), images, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(network.texts(texts), words, rtol=1e-4, atol=1e-5)
    assert np.ptp(images, axis=0).max() > 0.05 and np.ptp(words, axis=0).max() > 0.1


@pytest.mark.parametrize(("size", "way"), [(35, "clean"), (28, "clean"), (28, "processor")])
def test_dino_from_images(folders: dict[str, Path], models: dict[str, Any], size: int, way: str) -> None:
    network = make_network("dinov2", path=str(folders["dino"]), size=size, resize=way, batch_size=2)
    if way == "clean":
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's
        arrays = [(resize.clean(image, size) / 255 - mean) / std for image in IMAGES]
        pixels = torch.from_numpy(np.stack(arrays).astype(np.float32).transpose(0, 3, 1, 2))
    else:
        process = transformers.AutoImageProcessor.from_pretrained(folders["dino"], backend="pil")
        pixels = process([Image.fromarray(image) for image in IMAGES], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = models["dino"](pixels).pooler_output.numpy()
    np.testing.assert_allclose(network(IMAGES), expected, rtol=1e-4, atol=1e-5)


def test_one_program_serves_all_batches(folders: dict[str, Path], models: dict[str, Any]) -> None:
    network = make_network("dinov2", path=str(folders["dino"]), size=28, batch_size=2)
    features = network(IMAGES)
    assert features.shape == (len(IMAGES), 32) and features.dtype == np.float32
    for image, feature in zip(IMAGES, features, strict=True):
        np.testing.assert_allclose(network([image])[0], feature, rtol=1e-5, atol=1e-5)
    compiled: Any = network.forward
    assert compiled._cache_size() == 1
    assert network([]).shape == (0, 32)


def test_forward_on_a_mesh(folders: dict[str, Path], models: dict[str, Any]) -> None:
    """Each device computes its rows."""
    network = make_network("dinov2", path=str(folders["dino"]), size=28)
    mesh = make_mesh({"data": 8}, jax.devices())
    pixels = np.stack([network.prepare(image) for image in feature_models.images(*[(30, 30)] * 16)])
    rows = NamedSharding(mesh, PartitionSpec("data"))
    params = jax.device_put(network.params, NamedSharding(mesh, PartitionSpec()))
    features = network.forward(params, jax.device_put(pixels, rows))
    assert features.sharding.is_equivalent_to(rows, 2)
    np.testing.assert_allclose(features, network.forward(network.params, pixels), rtol=1e-5, atol=1e-5)


def test_efficientnet_from_images() -> None:
    network = make_network("efficientnet", batch_size=2)
    images = feature_models.images((300, 200), (50, 70))
    pixels = np.stack([resize.clean(image, 224) for image in images])
    np.testing.assert_array_equal(np.stack([network.prepare(image) for image in images]), pixels)
    assert network(images).shape == (2, 1280) and network.size == 224
    assert make_network("efficientnet", path=str(efficientnet.packaged())).fingerprint == network.fingerprint


def test_inception_resizes_as_it_is_told(tmp_path: Path) -> None:
    state: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        inception_in_torch.features(torch.zeros(1, 3, 75, 75), state)
    torch.save(state, tmp_path / "a.pth")
    image = feature_models.images((64, 48))[0]
    networks = {
        way: make_network("inception", path=str(tmp_path / "a.pth"), resize=way) for way in ("clean", "tensorflow")
    }
    for way, network in networks.items():
        np.testing.assert_array_equal(network.prepare(image), getattr(resize, way)(image, 299))
        assert (network.size, network.dim) == (299, 2048)
    assert networks["clean"].fingerprint != networks["tensorflow"].fingerprint


def test_fingerprints_follow_what_changes_features(folders: dict[str, Path], models: dict[str, Any]) -> None:
    folder = str(folders["dino"])
    same = [make_network("dinov2", path=folder, size=28, batch_size=n).fingerprint for n in (1, 4)]
    others = [make_network("dinov2", path=folder, **options).fingerprint for options in (
        {"size": 35}, {"size": 28, "resize": "processor"}
    )]  # fmt: skip
    assert len({*same}) == 1 and len({*same, *others}) == 3


def test_one_weight_changes_the_fingerprint(tmp_path: Path) -> None:
    model = feature_models.dino(tmp_path)
    before = make_network("dinov2", path=str(tmp_path), size=28).fingerprint
    model.layernorm.bias.data[3] += 1e-3
    model.save_pretrained(tmp_path)
    assert make_network("dinov2", path=str(tmp_path), size=28).fingerprint != before


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fid", {}, f"feature network 'fid' must be one of {', '.join(NETWORKS)}"),
        ("clip", {}, "feature network 'clip' needs the option 'path'"),
        ("inception", {"path": "a.pth", "resize": "nearest"}, "'nearest' is not one of clean, tensorflow"),
        ("dinov2", {"path": "DINO", "size": 28, "resize": "no"}, "resize='no' is not one of clean, processor"),
        ("dinov2", {"path": "DINO", "size": 35, "resize": "processor"}, "makes images of 28 pixels, not 35"),
        ("dinov2", {"path": "DINO", "size": "28"}, "size='28' must be a whole number, at least 1"),
        ("efficientnet", {"batch_size": 0}, "batch_size=0 must be a whole number, at least 1"),
        ("efficientnet", {"path": "DINO"}, "is not EfficientNet-Lite0"),
        ("inception", {"path": "DINO"}, "is not FID's InceptionV3"),
        ("clip", {"path": "DINO"}, "has model_type='dinov2'"),
    ],
)
def test_bad_options(
    folders: dict[str, Path], models: dict[str, Any], name: str, options: dict[str, Any], message: str
) -> None:
    options = {key: str(folders["dino"]) if value == "DINO" else value for key, value in options.items()}
    with pytest.raises(UserError, match=message):
        make_network(name, **options)


def test_clip_with_another_model_s_image_processor(tmp_path: Path) -> None:
    feature_models.clip(tmp_path)
    crop = {"height": 21, "width": 21}
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 21}, crop_size=crop).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path}: its image processor makes images of 21 pixels"):
        make_network("clip", path=str(tmp_path))


@pytest.mark.parametrize("image", [np.zeros((9, 9, 3), np.float32), np.zeros((9, 9), np.uint8)])
def test_what_is_no_image(folders: dict[str, Path], models: dict[str, Any], image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 \[H, W, 3\], and is"):
        make_network("dinov2", path=str(folders["dino"]), size=28)([image])
