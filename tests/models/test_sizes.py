"""The published sizes, counted on abstract shapes: nothing of the 24B is allocated."""

import importlib
import math
from typing import Any

import jax
import pytest

from ernie_vilg_jax.model import Model, build_model


def model_of(name: str, **changes: Any) -> tuple[Model, Any]:
    config = importlib.import_module(f"configs.{name}").get_config()
    config.update_from_flattened_dict(changes)
    return build_model(config), config


def billions(init: Any) -> float:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0)))) / 1e9


def test_paper_sizes() -> None:
    model, config = model_of("paper")
    unet, text = billions(model.init_unet), billions(model.init_text_encoder)
    assert unet == pytest.approx(2.238, rel=0.005)
    assert text == pytest.approx(1.252, rel=0.005)
    assert config.experts.n == 10
    assert text + config.experts.n * unet == pytest.approx(23.63, rel=0.005)


def test_paper_unet_without_pooled_text_is_the_published_count() -> None:
    model, _ = model_of("paper", **{"model.unet.pooled_text": False})
    assert billions(model.init_unet) == pytest.approx(2.238, rel=0.0005)


@pytest.mark.parametrize(
    ("name", "unet", "text_encoder"),
    [("ablation", 0.870, 0.500), ("medium_300m", 0.2437, 0.1013), ("small_100m", 0.1084, 0.0487)],
)
def test_smaller_sizes(name: str, unet: float, text_encoder: float) -> None:
    model, _ = model_of(name)
    assert billions(model.init_unet) == pytest.approx(unet, rel=0.01)
    assert billions(model.init_text_encoder) == pytest.approx(text_encoder, rel=0.005)


def test_paper_latents_are_an_eighth_of_the_image() -> None:
    model, config = model_of("paper")
    assert model.latent_shape == (config.model.image_size // 8, config.model.image_size // 8, 4)
    x = jax.ShapeDtypeStruct((2, *model.latent_shape), "float32")

    def forward(key: jax.Array, x: jax.Array) -> jax.Array:
        import jax.numpy as jnp

        text = model.encode_text(model.init_text_encoder(key), jnp.zeros((2, 77), int), jnp.ones((2, 77), bool))
        return model.prediction(model.init_unet(key), x, jnp.zeros(2, int), text)

    prediction = jax.eval_shape(forward, jax.random.key(0), x)
    assert (prediction.shape, prediction.dtype) == (x.shape, "float32")
