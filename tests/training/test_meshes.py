"""Training over meshes of eight fake devices: the same losses as on one, and no expert on the expert axis."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from ml_collections import ConfigDict

from configs.demo import get_config
from ernie_vilg_jax.config import latent_size
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.forecast.hlo import Program
from ernie_vilg_jax.model import build_model
from ernie_vilg_jax.models.autoencoder import Posterior
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.sharding.mesh import AXES, make_mesh
from ernie_vilg_jax.training import in_turn
from ernie_vilg_jax.training.diffusion import DiffusionTask
from ernie_vilg_jax.training.validation import Validation

pytestmark = pytest.mark.slow

BATCH = 32
MESHES: tuple[Mapping[str, int], ...] = (
    {"expert": 2, "data": 1},
    {"data": 8},
    {"data": 1, "fsdp": 8},
    {"data": 1, "tensor": 8},
    {"expert": 2, "data": 4},
    {"expert": 2, "data": 1, "fsdp": 4},
    {"expert": 2, "data": 1, "tensor": 4},
    {"data": 2, "fsdp": 2, "tensor": 2},
    {"expert": 2, "data": 1, "fsdp": 2, "tensor": 2},
    {"expert": 2, "data": 2, "fsdp": 2},
)

ALWAYS, PROOF = "expert=2,data=2,fsdp=2", "data=2,fsdp=2,tensor=2"
"""All axes. The others are parts of what these test, or other pairs of axes: on request."""


def tiny(**changes: Any) -> ConfigDict:
    config = get_config("experts,smoke")
    config.experts.n = 2
    config.experts.train_text_encoder = True
    config.phases.experts.batch_size = BATCH
    config.phases.experts.learning_rate = 1e-2
    config.tokenizer.vocab_size = 64
    config.model.text_encoder.width = config.model.unet.base_channels = 16
    config.model.unet.head_channels = 8
    config.update_from_flattened_dict(changes)
    return config


def mesh_of(sizes: Mapping[str, int]) -> Mesh:
    count = int(np.prod([size for size in sizes.values()]))
    return make_mesh(sizes, jax.devices()[:count])


def task_on(mesh: Mesh, config: ConfigDict) -> DiffusionTask:
    model = build_model(config)
    # The same weights everywhere, none of them zero.
    draw = lambda tree: jax.tree.map(  # noqa: E731
        lambda leaf: jnp.asarray(0.1 * np.random.default_rng(leaf.size).standard_normal(leaf.shape), leaf.dtype), tree
    )
    channels = model.autoencoder.latent_channels
    start = {
        "autoencoder": {
            "params": draw(model.abstract_autoencoder()["params"]),
            "mean": jnp.zeros(channels),
            "std": jnp.ones(channels),
        },
        "text_encoder": draw(model.abstract_text_encoder()),
        "unet": draw(model.abstract_unet()),
    }
    # Cached latents: the autoencoder is not part of the step, which then compiles faster.
    cached: Any = Posterior(np.zeros(0), np.zeros(0))  # type: ignore[arg-type]
    return DiffusionTask(config, model, mesh, Validation(0, {}, {}), start, cached)


def a_batch(config: ConfigDict, mesh: Mesh) -> dict[str, jax.Array]:
    rng = np.random.default_rng(1)
    side, length = latent_size(config), config.tokenizer.max_length
    latents = (BATCH, side, side, config.model.autoencoder.latent_channels)
    arrays = {
        "mean": rng.standard_normal(latents).astype(np.float32),
        "log_variance": np.full(latents, -9.0, np.float32),
        "tokens": rng.integers(4, 64, (BATCH, length)).astype(np.int32),
        "token_mask": np.arange(length)[None] < rng.integers(2, length, (BATCH, 1)),
    }
    return {name: jax.device_put(array, rules.batch_sharding(mesh)) for name, array in arrays.items()}


def losses(mesh: Mesh, config: ConfigDict, steps: int = 3) -> np.ndarray:
    with jax.set_mesh(mesh):
        task = task_on(mesh, config)
        state, batch = task.init(jax.random.key(0)), a_batch(config, mesh)
        found = []
        for _ in range(steps):
            state, metrics = task.train_step(state, batch)
            found.append(np.asarray(metrics["per_sample"]))
    return np.stack(found)


@cache
def on_one_device() -> np.ndarray:
    return losses(make_mesh({}, jax.devices()[:1]), tiny())


def _named(sizes: Mapping[str, int]) -> str:
    return ",".join(f"{axis}={size}" for axis, size in sizes.items() if size > 1)


def _asked_for_by(name: str) -> list[pytest.MarkDecorator]:
    return [] if name == ALWAYS else [pytest.mark.proofs if name == PROOF else pytest.mark.hosts]


@pytest.mark.parametrize(
    "sizes",
    [pytest.param(sizes, id=_named(sizes), marks=_asked_for_by(_named(sizes))) for sizes in MESHES],
)
def test_every_mesh_gives_the_losses_of_one_device(sizes: Mapping[str, int]) -> None:
    """Losses of each sample, over three steps at a high rate, so that wrong gradients are detected."""
    expected = on_one_device()
    assert np.abs(expected[2].mean() - expected[0].mean()) > 1e-2, "the steps must change something"
    np.testing.assert_allclose(losses(mesh_of(sizes), tiny()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.proofs
def test_experts_in_turn_give_the_losses_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = on_one_device()
    monkeypatch.setattr(in_turn, "PLATFORMS", ("cpu",))
    found = losses(mesh_of({"data": 1, "fsdp": 2, "tensor": 2}), tiny())
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("trained", [True, pytest.param(False, marks=pytest.mark.hosts)], ids=["trained", "frozen"])
def test_no_expert_crosses_the_expert_axis(trained: bool) -> None:
    """In the compiled program, only the text encoder's gradients and single numbers are exchanged between groups."""
    config = tiny(**{"experts.train_text_encoder": trained})
    mesh = mesh_of({"expert": 2, "data": 2, "fsdp": 2})
    with jax.set_mesh(mesh):
        task = task_on(mesh, config)
        program = Program(task.train_step.lower(task.abstract, a_batch(config, mesh)).compile().as_text())
    axis, shape = AXES.index("expert"), mesh.devices.shape
    crossing = [one for one in program.collectives if one.crosses(shape, axis)]
    within = [one for one in program.collectives if not one.crosses(shape, axis)]
    assert within, "the mesh has a data axis, so something is exchanged within groups"

    text = task.abstract["text_encoder"]["ema"]
    whole = {leaf.shape for leaf in jax.tree.leaves(text)}
    allowed = whole | {leaf.sharding.shard_shape(leaf.shape) for leaf in jax.tree.leaves(text)} if trained else set()
    largest = max(leaf.size for leaf in jax.tree.leaves(text)) if trained else 0
    for one in crossing:
        for dtype, dimensions in one.shapes:
            size = int(np.prod(dimensions))
            bookkeeping = size <= BATCH * config.tokenizer.max_length or dtype in ("u32", "s32", "pred")
            assert bookkeeping or dimensions in allowed, f"{one.kind} of {dtype}{dimensions} between expert groups"
            assert size <= max(largest, BATCH * config.tokenizer.max_length)


@pytest.mark.parametrize(
    ("sizes", "changes", "message"),
    [
        ({"expert": 4, "data": 1}, {}, r"mesh\.expert=4 does not divide the 2 experts.*1, 2"),
        (
            {"expert": 2, "data": 1},
            {"experts.train": (1,)},
            r"mesh\.expert=2 does not divide the 1 experts.*: it can be 1",
        ),
        (
            {"data": 8},
            {"phases.experts.batch_size": 40},
            r"phases\.experts\.batch_size=40 must be a multiple of 16 .*nearest: 32",
        ),
    ],
)
def test_settings_that_do_not_fit_the_mesh_are_refused(sizes: dict, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        task_on(mesh_of(sizes), tiny(**changes))
