"""Prediction types: the loss against the target, weighted or not, and what checkpoints must agree on."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from configs.demo import get_config
from ernie_vilg_jax import checkpointing, compatibility
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.tokenizers import train_sentencepiece
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.model import build_model, check_diffusion
from ernie_vilg_jax.sharding.mesh import make_mesh
from ernie_vilg_jax.training.step import loss
from tests.random_model import filled
from tests.training.test_meshes import task_on, tiny


def losses(**changes: Any) -> tuple[np.ndarray, ...]:
    """(x0, noise, alpha, sigma, prediction, losses) of four samples, one of them at the last timestep."""
    mesh = make_mesh({}, jax.devices()[:1])
    with jax.set_mesh(mesh):
        task = task_on(mesh, tiny(**changes))
        assert task.start is not None
        rng = np.random.default_rng(3)
        draw = lambda: jnp.asarray(rng.standard_normal((4, *task.model.latent_shape)), jnp.float32)  # noqa: E731
        length = task.config.tokenizer.max_length
        batch = {
            **{"mean": draw(), "log_variance": jnp.full((4, *task.model.latent_shape), -30.0), "latent_noise": draw()},
            **{"noise": draw(), "t": jnp.array([0, 200, 700, 999]), "tokens": jnp.full((4, length), 5)},
            "token_mask": jnp.ones((4, length), bool),
        }
        fixed = {"autoencoder": _unit(task), "unet": None, "text_encoder": None}
        inputs = task.start["unet"], task.start["text_encoder"], fixed, batch, jax.random.key(0)
        _, per_sample = jax.jit(partial(loss, task.setup))(*inputs)
        text = task.model.encode_text(task.start["text_encoder"], batch["tokens"], batch["token_mask"])
        schedule, t = task.model.schedule, np.asarray(batch["t"])
        alpha, sigma = (table[t].reshape(4, 1, 1, 1) for table in (schedule.alphas, schedule.sigmas))
        x = alpha * np.asarray(batch["mean"]) + sigma * np.asarray(batch["noise"])
        said: Any = task.model.unet.apply({"params": task.start["unet"]}, jnp.asarray(x, jnp.float32), t, *text)
    return np.asarray(batch["mean"]), np.asarray(batch["noise"]), alpha, sigma, np.asarray(said), np.asarray(per_sample)


def _unit(task: Any) -> dict[str, Any]:
    """An autoencoder with unscaled latents."""
    channels = task.model.autoencoder.latent_channels
    return {"mean": jnp.zeros(channels), "std": jnp.ones(channels)}


@pytest.mark.parametrize("gamma", [0.0, 5.0])
@pytest.mark.parametrize("kind", ["epsilon", "v", "x0"])
def test_the_loss_is_that_of_the_prediction(kind: str, gamma: float) -> None:
    fields = {"diffusion.prediction_type": kind, "diffusion.min_snr_gamma": gamma, "dtype": "float32"}
    x0, noise, alpha, sigma, said, got = losses(**fields)
    target = {"epsilon": noise, "x0": x0, "v": alpha * noise - sigma * x0}[kind]
    wanted = np.mean((said - target) ** 2, axis=(1, 2, 3))
    if gamma:
        snr = (alpha / sigma).reshape(4) ** 2
        wanted *= np.minimum(snr, gamma) / {"epsilon": snr, "x0": 1, "v": snr + 1}[kind]
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_the_loss_of_v_without_signal() -> None:
    """There v = -x0."""
    x0, _, _, _, said, got = losses(
        **{"diffusion.prediction_type": "v", "diffusion.zero_terminal_snr": True, "dtype": "float32"}
    )
    np.testing.assert_allclose(got[3], np.mean((said[3] + x0[3]) ** 2), rtol=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v", "x0"])
def test_predict_gives_both_parts(kind: str) -> None:
    config = get_config("smoke")
    config.diffusion.prediction_type = kind
    model = build_model(config)
    unet, text_encoder = filled(model.abstract_unet(), 0, 0.4), filled(model.abstract_text_encoder(), 1, 1.0)
    words = jnp.ones((2, config.tokenizer.max_length), jnp.int32)
    text = jax.jit(model.encode_text)(text_encoder, words, words > 0)
    x, t = jax.random.normal(jax.random.key(2), (2, *model.latent_shape)), jnp.array([100, 800])
    denoised = jax.jit(model.predict)(unet, x, t, text)
    alpha, sigma = model.schedule.alpha_sigma(t, 4)
    np.testing.assert_allclose(alpha * denoised.x0 + sigma * denoised.epsilon, x, atol=1e-4)
    said = jax.jit(model.prediction)(unet, x, t, text)
    np.testing.assert_allclose(said, model.target(denoised.x0, denoised.epsilon, t), atol=1e-3)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"prediction_type": "score"}, "prediction_type='score' must be one of epsilon, x0, v"),
        ({"zero_terminal_snr": True}, "zero_terminal_snr .* add --config.diffusion.prediction_type=v"),
        ({"min_snr_gamma": -1.0}, "min_snr_gamma=-1.0 must be 0"),
        ({"min_snr_gamma": float("nan")}, "min_snr_gamma=nan must be 0"),
        ({"min_snr_gamma": 5.0, "zero_terminal_snr": True, "prediction_type": "v"}, "leave one of the two out"),
    ],
)
def test_invalid_combinations_are_refused(fields: dict[str, Any], told: str) -> None:
    config = default_config()
    config.diffusion.update(fields)
    with pytest.raises(UserError, match=told):
        check_diffusion(config.diffusion)
    with pytest.raises(UserError, match=told):
        build_model(config)


@pytest.fixture
def older(tmp_path: Path) -> epath.Path:
    """A checkpoint older than these fields."""
    config = get_config("base,smoke")
    for name in ("prediction_type", "zero_terminal_snr", "min_snr_gamma"):
        del config.diffusion[name]
    assert build_model(config).prediction_type == "epsilon"
    words = checkpointing.pack_tokenizer(train_sentencepiece(["a cat", "a dog"], 300, config.tokenizer.max_length))
    metadata = checkpointing.make_metadata(config, phase="base", data="")
    checkpointing.save_once(tmp_path / "old", {"tokenizer": words}, metadata)
    return epath.Path(tmp_path / "old")


def test_a_checkpoint_of_before_predicts_epsilon(older: epath.Path) -> None:
    config = get_config("experts,smoke")
    compatibility.check_same(older, config, "base")
    config.diffusion.min_snr_gamma = 5.0  # affects training, not the model
    compatibility.check_same(older, config, "base")
    config.diffusion.prediction_type = "v"
    with pytest.raises(UserError, match=r"diffusion.prediction_type \('epsilon' in the checkpoint, 'v' now\)"):
        compatibility.check_same(older, config, "base")
