"""Encoding, latent statistics and validation in pieces: the numbers of a whole batch, in the memory of a part of it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from ml_collections import ConfigDict

from configs.demo import get_config
from ernie_vilg_jax.model import Model, build_model
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.sharding.mesh import make_mesh
from ernie_vilg_jax.training import latents
from ernie_vilg_jax.training.autoencoder import AutoencoderTask
from ernie_vilg_jax.training.latents import Encoder, measure, measure_encoded, piece_of
from ernie_vilg_jax.training.validation import Validation, Validator
from tests.random_model import filled

COUNT = 21
CHANNELS = 4


@pytest.fixture(scope="module")
def config() -> ConfigDict:
    config = get_config("base,smoke")
    config.tokenizer.vocab_size, config.model.image_size = 64, 32
    config.model.text_encoder.width = config.model.unet.base_channels = 16
    config.model.unet.head_channels = 8
    return config


@pytest.fixture(scope="module")
def model(config: ConfigDict) -> Model:
    return build_model(config)


@pytest.fixture(scope="module")
def params(model: Model) -> Any:
    return filled(model.abstract_autoencoder()["params"], 1, 0.2)


@pytest.fixture(scope="module")
def examples(config: ConfigDict) -> dict[str, np.ndarray]:
    rng, length = np.random.default_rng(0), config.tokenizer.max_length
    return {
        "image": rng.integers(0, 256, (COUNT, 32, 32, 3), np.uint8),
        "tokens": rng.integers(4, 64, (COUNT, length)).astype(np.int32),
        "token_mask": np.arange(length)[None] < rng.integers(2, length, (COUNT, 1)),
    }


@pytest.fixture(
    params=[
        {"data": 1},
        pytest.param({"data": 2, "fsdp": 2}, marks=pytest.mark.proofs),
        {"data": 2, "tensor": 2, "expert": 2},
    ],
    ids=str,
)
def mesh(request: pytest.FixtureRequest) -> Mesh:
    return make_mesh(request.param, jax.devices()[: int(np.prod(list(request.param.values())))])


def cut(arrays: dict[str, np.ndarray], size: int, mesh: Mesh) -> dict[int, dict[str, jax.Array]]:
    places = [np.arange(start, start + size) for start in range(0, COUNT, size)]
    return {
        int(place[0]): rules.to_devices(
            {**{name: array[place % COUNT] for name, array in arrays.items()}, "valid": place < COUNT}, mesh, size
        )
        for place in places
    }


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images per device."""
    monkeypatch.setattr(latents, "PIXELS", 2 * 32**2)


def test_statistics_are_those_of_latents_drawn_from_all_images(
    model: Model, params: Any, examples: dict[str, np.ndarray], mesh: Mesh
) -> None:
    """In expectation: here over five thousand draws of each image."""
    size = piece_of(model, mesh)
    assert size == 2 * mesh.size // mesh.shape["tensor"]
    pieces = cut({"image": examples["image"]}, size, mesh)
    with jax.set_mesh(mesh):
        found = measure(Encoder(model, mesh), params, pieces.values())
    mean, log_variance = (
        np.asarray(leaf, np.float64) for leaf in model.posterior({"params": params}, jnp.asarray(examples["image"]))
    )
    assert len(mean) == COUNT
    rng, drawn, squares = np.random.default_rng(3), np.zeros(CHANNELS), np.zeros(CHANNELS)
    for _ in range(draws := 5000):
        latents = mean + np.exp(log_variance / 2) * rng.standard_normal(mean.shape, np.float32)
        drawn, squares = drawn + latents.mean((0, 1, 2)), squares + np.square(latents).mean((0, 1, 2))
    std = np.sqrt(squares / draws - np.square(drawn / draws))
    np.testing.assert_allclose(found["std"], std, rtol=1e-3)
    np.testing.assert_allclose(found["mean"], drawn / draws, atol=2e-3 * std.max())
    again = measure_encoded(params, [{"mean": m, "log_variance": v} for m, v in zip(mean, log_variance, strict=True)])
    for name in ("mean", "std"):
        np.testing.assert_allclose(again[name], found[name], rtol=1e-5, atol=1e-6)


def test_a_channel_that_carries_nothing_is_not_blown_up(
    model: Model, params: Any, examples: dict[str, np.ndarray]
) -> None:
    """Its posterior is the prior: mean 0 and standard deviation 1 for any image."""
    kernel, bias = (np.array(params["encoder"]["quant"][name]) for name in ("kernel", "bias"))
    kernel[..., [0, CHANNELS]], bias[[0, CHANNELS]] = 0, 0
    dead = {**params, "encoder": {**params["encoder"], "quant": {"kernel": kernel, "bias": bias}}}
    one = make_mesh({"data": 1}, jax.devices()[:1])
    with jax.set_mesh(one):
        found = measure(Encoder(model, one), dead, cut({"image": examples["image"]}, 2, one).values())
    assert found["std"][0] == pytest.approx(1, abs=0.1)


def test_a_device_holds_its_own_images_only(model: Model, params: Any) -> None:
    """Twice the images on twice the devices take the same memory on each; only latents are replicated."""

    def temporary(count: int) -> int:
        mesh = make_mesh({"data": count}, jax.devices()[:count])
        encoder = Encoder(model, mesh)
        image = jax.ShapeDtypeStruct((encoder.piece, 32, 32, 3), jnp.uint8, sharding=rules.batch_sharding(mesh))
        frozen = {"params": params, "mean": np.zeros(CHANNELS), "std": np.ones(CHANNELS)}
        frozen = rules.placed(jax.tree.map(np.float32, frozen), rules.shardings(frozen, mesh))
        with jax.set_mesh(mesh):
            return encoder.posterior.lower(frozen, image).compile().memory_analysis().temp_size_in_bytes

    assert temporary(8) < 1.5 * temporary(2)


def test_validation_of_pieces_is_that_of_the_whole(
    config: ConfigDict, model: Model, params: Any, examples: dict[str, np.ndarray], mesh: Mesh
) -> None:
    one = make_mesh({"data": 1}, jax.devices()[:1])
    unet = filled(model.abstract_unet(), 3, 0.4)
    state = {
        "autoencoder": {"params": params, "mean": np.zeros(CHANNELS), "std": np.ones(CHANNELS)},
        "text_encoder": {"ema": filled(model.abstract_text_encoder(), 2, 1.0)},
        "experts": {"ema": jax.tree.map(lambda leaf: leaf[None], unet)},
    }
    state = jax.tree.map(np.float32, state)

    def losses(mesh: Mesh, size: int) -> dict[str, float]:
        validation = Validation(COUNT, cut(examples, size, mesh), {})
        validator = Validator(config, model, mesh, type(model.stages)((), 1000), (0,))
        with jax.set_mesh(mesh):
            return validator.losses(jax.device_put(state, rules.replicated(mesh)), validation)

    expected, found = losses(one, COUNT), losses(mesh, piece_of(model, mesh))
    assert expected.keys() == found.keys()
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-4)


def test_the_autoencoder_is_validated_on_every_image_once(
    config: ConfigDict, model: Model, params: Any, examples: dict[str, np.ndarray], mesh: Mesh
) -> None:
    config = config.copy_and_resolve_references()
    config.phases.autoencoder.batch_size = 8
    images = {"image": examples["image"]}
    task = AutoencoderTask(config, model, mesh, Validation(COUNT, cut(images, piece_of(model, mesh), mesh), {}))
    with jax.set_mesh(mesh):
        found = task.validate({"ema": jax.device_put(params, rules.replicated(mesh))})
        shown, labels = task.preview({"ema": jax.device_put(params, rules.replicated(mesh))})
    floats = examples["image"] / np.float32(127.5) - 1
    posterior: Any = model.autoencoder.apply({"params": params}, floats, method="encode")
    decoded: Any = model.autoencoder.apply({"params": params}, posterior.mean, method="decode")
    assert found["mse"] == pytest.approx(float(np.square(np.asarray(decoded) - floats).mean()), rel=1e-4)
    assert len(shown) == len(labels) == 2 * min(8, piece_of(model, mesh))
    np.testing.assert_array_equal(shown[::2], examples["image"][: len(shown) // 2])
