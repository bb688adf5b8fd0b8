"""A task with adapters: what it trains, what it saves, what it begins as. Traced, not compiled."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from ml_collections import ConfigDict

from configs.demo import get_config
from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.model import Model, build_model
from ernie_vilg_jax.models import lora
from ernie_vilg_jax.pipeline import DEMO
from ernie_vilg_jax.sharding.mesh import make_mesh
from ernie_vilg_jax.training.adapters import Adapters, expert_average, text_average
from ernie_vilg_jax.training.diffusion import DiffusionTask
from ernie_vilg_jax.training.init import beginnings
from ernie_vilg_jax.training.step import train_step
from ernie_vilg_jax.training.validation import Validation

TARGETS, TEXT = ("attn", "conv_in"), ("qkv",)


def make_config(phase: str, changes: dict[str, Any]) -> ConfigDict:
    config = get_config(f"{phase},smoke")
    settings = {
        "lora.rank": 2,
        "lora.targets": TARGETS,
        "lora.text_targets": (),
        f"phases.{phase}.init_from": "somewhere",
    }
    config.update_from_flattened_dict({**settings, **changes})
    return config


def make_task(config: ConfigDict) -> tuple[DiffusionTask, Model]:
    model, mesh = build_model(config), make_mesh({"data": 1}, jax.devices()[:1])
    return DiffusionTask(config, model, mesh, Validation(0, {}, {})), model


def batch_of(config: ConfigDict, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    words = (size, config.tokenizer.max_length)
    side = config.model.image_size
    shapes = {"image": ((size, side, side, 3), jnp.uint8), "tokens": (words, jnp.int32), "token_mask": (words, bool)}
    return {name: jax.ShapeDtypeStruct(*one) for name, one in shapes.items()}


@pytest.mark.parametrize("text", [(), TEXT])
def test_adapters_alone_are_trained_and_saved(text: tuple[str, ...]) -> None:
    config = make_config("experts", {"lora.text_targets": text})
    task, model = make_task(config)
    state, unet = task.abstract, model.abstract_unet()
    wanted = sum(2 * (int(np.prod(leaf.shape[:-1])) + leaf.shape[-1]) for leaf in lora.targeted(unet, TARGETS).values())
    assert lora.count(state["experts"]["params"]) == lora.count(state["experts"]["ema"]) == 2 * wanted
    # Adam's two moments, and a few counts.
    assert 0 <= lora.count(state["experts"]["opt"]) - 4 * wanted < 20
    assert lora.count(state["base"]["experts"]) == 2 * lora.count(unet)
    items = jax.eval_shape(task.items, state)
    assert set(items) == {"train", *(["text_encoder"] if text else [])}
    assert set(jax.eval_shape(task.state, items)) == {"step", "key", "text_encoder"}

    with jax.set_mesh(task.mesh):
        after, metrics = jax.eval_shape(partial(train_step, task.setup), state, batch_of(config, task.batch_size))
    shapes = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)  # noqa: E731
    assert shapes(after) == shapes(state) and {"loss", "grad_norm", "loss_expert_01"} <= set(metrics)


@pytest.mark.parametrize("phase", ["base", "experts"])
def test_a_fresh_state_is_the_model_it_starts_from(phase: str) -> None:
    config = make_config(phase, {"lora.text_targets": TEXT, "lora.alpha": 6.0})
    task, model = make_task(config)
    rng = np.random.default_rng(0)
    fill = lambda shapes: jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)  # noqa: E731
    unet, text = model.abstract_unet(), model.abstract_text_encoder()
    experts = [fill(unet) for _ in task.trained]
    start = {"autoencoder": fill(model.abstract_autoencoder()), "text_encoder": fill(text)}
    start |= {"experts": experts} if phase == "experts" else {"unet": experts[0]}
    with jax.disable_jit():
        state = task._new(jax.random.key(1), start)
    assert task.adapters and task.adapters.scale == 3.0
    for slot, expert in enumerate(experts):
        jax.tree.map(np.testing.assert_array_equal, expert_average(state, slot, 3.0), expert)
    jax.tree.map(np.testing.assert_array_equal, text_average(state, 3.0), start["text_encoder"])
    # Each expert has its own adapters.
    if phase == "experts":
        first, second = (np.asarray(leaf) for leaf in state["experts"]["params"]["mid_attn"]["qkv"]["kernel"]["a"])
        assert np.any(first != second)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora.rank": -1}, r"--config\.lora\.rank=-1"),
        ({"lora.targets": ("(",)}, r"--config\.lora\.targets: '\(' is not a regular expression"),
        ({"lora.targets": ("attic",)}, "'attic' is in the name of no module"),
        ({"lora.text_targets": ("attn",)}, r"--config\.lora\.text_targets: 'attn'"),
    ],
)
def test_adapters_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_task(make_config("experts", changes))


def test_adapters_need_a_model() -> None:
    with pytest.raises(UserError, match=r"name one with --config\.phases\.base\.init_from"):
        Adapters.of(make_config("base", {"phases.base.init_from": ""}))
    assert Adapters.of(make_config("experts", {"lora.rank": 0})) is None


def test_a_bank_starts_from_a_bank_but_a_base_does_not(tmp_path: Path) -> None:
    config = checkpointing.read_config(checkpointing.find(DEMO), default_config())
    config.phase, config.phases.experts.init_from = "experts", str(DEMO)
    assert beginnings(config, epath.Path(tmp_path), None) == {"all parts": checkpointing.find(DEMO)}
    config.phase, config.phases.base.init_from = "base", str(DEMO)
    with pytest.raises(UserError, match=r"base\.init_from=.* is of the phase experts, from which base cannot start"):
        beginnings(config, epath.Path(tmp_path), None)
