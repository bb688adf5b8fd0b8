"""The training step against another one, written from the formulas: draws, noise, loss, gradient, clipping, AdamW, EMA.

Only the networks themselves (`apply`) are shared. Sources: DDPM (arXiv 2006.11239, equations 4 and 14), AdamW
(arXiv 1711.05101, algorithm 2), and docs/architecture.md for the keys of all draws.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.demo import get_config
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.model import Model, build_model
from ernie_vilg_jax.sharding.mesh import make_mesh
from ernie_vilg_jax.training import diffusion, in_turn, step
from ernie_vilg_jax.training.diffusion import DiffusionTask
from ernie_vilg_jax.training.validation import Validation

pytestmark = pytest.mark.slow
BATCH, N, T = 16, 2, 1000
BOUNDS = [(0, 300), (300, 1000)]
MEAN = np.array([0.3, -0.2, 0.1, 0.0], np.float32)
STD = np.array([0.5, 2.0, 1.5, 0.7], np.float32)
RATE, DECAY, B1, B2, WEIGHT_DECAY, CLIP, WARMUP = 3e-3, 0.9, 0.9, 0.999, 0.01, 0.05, 4


def make_task(accumulation: int) -> tuple[DiffusionTask, ConfigDict, Model]:
    config = get_config("experts,smoke")
    config.tokenizer.vocab_size, config.experts.stages = 64, "300"
    config.experts.train_text_encoder = True
    config.knowledge.enabled = True
    config.optimizer.clip_norm = CLIP
    phase = config.phases.experts
    phase.batch_size, phase.accumulation_steps, phase.warmup_steps = BATCH, accumulation, WARMUP
    phase.learning_rate, phase.ema_decay = RATE, DECAY
    model = build_model(config)
    return DiffusionTask(config, model, make_mesh({"data": 1}, jax.devices()[:1]), Validation(0, {}, {})), config, model


def random_like(shapes: Any, seed: int, scale: float) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: (scale * rng.standard_normal(leaf.shape)).astype(np.float32), shapes)


def random_state(task: DiffusionTask, model: Model, step: int = 7) -> Any:
    """A state during training: averages that lag behind, moments that are not zero."""

    def opt(shape: Any, seed: int) -> Any:
        def fill(path: Any, leaf: Any) -> Any:
            if leaf.dtype == jnp.int32:
                return np.full(leaf.shape, step, np.int32)
            second = any(getattr(key, "name", "") == "nu" for key in path)
            value = 1e-3 * np.random.default_rng(seed).standard_normal(leaf.shape).astype(np.float32)
            return value**2 + 1e-8 if second else value

        return jax.tree_util.tree_map_with_path(fill, shape)

    state: Any = task.abstract
    frozen = {"params": random_like(state["autoencoder"]["params"], 1, 0.2), "mean": MEAN, "std": STD}
    experts = {name: random_like(state["experts"][name], seed, 0.3) for name, seed in (("params", 2), ("ema", 3))}
    text = {name: random_like(state["text_encoder"][name], seed, 0.5) for name, seed in (("params", 4), ("ema", 5))}
    return {
        "step": jnp.int32(step),
        "key": jax.random.key(11),
        "autoencoder": frozen,
        "text_encoder": {**text, "opt": opt(state["text_encoder"]["opt"], 6)},
        "experts": {**experts, "opt": opt(state["experts"]["opt"], 7)},
    }


def random_batch(config: ConfigDict, model: Model) -> dict[str, np.ndarray]:
    rng, length = np.random.default_rng(9), config.tokenizer.max_length
    side = model.latent_shape[0]
    return {
        "image": rng.integers(0, 256, (BATCH, 16, 16, 3)).astype(np.uint8),
        "tokens": rng.integers(0, 64, (BATCH, length)).astype(np.int32),
        "token_mask": np.arange(length) < rng.integers(3, length, (BATCH, 1)),
        "token_weight": np.where(rng.random((BATCH, length)) > 0.5, 1.01, 1.0).astype(np.float32),
        "loss_weight": 1 + 0.1 * rng.random((BATCH, side, side)).astype(np.float32),
    }


# ---- the other step ----------------------------------------------------------------------------------------------


def alphas_and_sigmas() -> tuple[np.ndarray, np.ndarray]:
    left = np.cumprod(1 - np.linspace(1e-4, 2e-2, T))
    return np.sqrt(left).astype(np.float32), np.sqrt(1 - left).astype(np.float32)


def draws(state: Any, model: Model) -> list[tuple[Any, Any, Any]]:
    """(noise of the latents, timesteps, noise) of each expert's share."""
    encode_key, loss_key = jax.random.split(jax.random.fold_in(state["key"], state["step"]))
    of_latents = jax.random.normal(encode_key, (BATCH, *model.latent_shape)).reshape(N, -1, *model.latent_shape)
    found = []
    for stage, (low, high) in enumerate(BOUNDS):
        time_key, noise_key, _ = jax.random.split(jax.random.fold_in(loss_key, stage), 3)
        t = np.asarray(jax.random.randint(time_key, (BATCH // N,), low, high))
        found.append((of_latents[stage], t, jax.random.normal(noise_key, of_latents[stage].shape)))
    return found


def expert_loss(model: Model, unet: Any, text: Any, frozen: Any, share: Any, drawn: Any) -> tuple[Any, Any]:
    of_latents, t, noise = drawn
    images = jnp.asarray(share["image"], jnp.float32) / 127.5 - 1
    moments = model.autoencoder.apply({"params": frozen["params"]}, images, method="encode")
    latents = (moments.mean + jnp.exp(moments.log_variance / 2) * of_latents - MEAN) / STD  # type: ignore[union-attr]
    alpha, sigma = (jnp.asarray(table)[t][:, None, None, None] for table in alphas_and_sigmas())
    features = model.text_encoder.apply({"params": text}, share["tokens"], share["token_mask"])
    said = model.unet.apply(
        {"params": unet},
        alpha * latents + sigma * noise,
        t,
        *features,
        share["token_weight"],
    )
    each = ((said - noise) ** 2 * share["loss_weight"][..., None]).mean((1, 2, 3))
    return each.mean(), each


def gradients(model: Model, state: Any, batch: Any) -> tuple[list[Any], Any, np.ndarray]:
    """Of each U-Net, of the text encoder (their mean), and the loss of each sample."""
    of_unets, of_text, losses = [], [], []
    function = jax.jit(
        jax.value_and_grad(
            lambda unet, text, share, drawn: expert_loss(model, unet, text, state["autoencoder"], share, drawn),
            argnums=(0, 1),
            has_aux=True,
        )
    )
    for k, drawn in enumerate(draws(state, model)):
        unet = jax.tree.map(lambda leaf, k=k: leaf[k], state["experts"]["params"])
        share = {name: leaf[k * BATCH // N : (k + 1) * BATCH // N] for name, leaf in batch.items()}
        (_, each), (of_unet, of_shared) = function(unet, state["text_encoder"]["params"], share, drawn)
        of_unets.append(of_unet)
        of_text.append(of_shared)
        losses.append(each)
    return of_unets, jax.tree.map(lambda *leaves: sum(leaves) / N, *of_text), np.concatenate(losses)


def adamw(grads: Any, params: Any, mu: Any, nu: Any, count: int) -> Any:
    """The new parameters, in float64, after clipping by the norm of this module's gradient."""
    norm = np.sqrt(sum(float((np.asarray(g, np.float64) ** 2).sum()) for g in jax.tree.leaves(grads)))
    scale = min(1.0, CLIP / norm)
    rate = RATE * min(1.0, (count + 1) / WARMUP)

    def new(g: Any, p: Any, m: Any, v: Any) -> np.ndarray:
        g, p, m, v = (np.asarray(leaf, np.float64) for leaf in (g, p, m, v))
        g = g * scale
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
        step = (m / (1 - B1 ** (count + 1))) / (np.sqrt(v / (1 - B2 ** (count + 1))) + 1e-8)
        return p - rate * (step + WEIGHT_DECAY * p)

    return jax.tree.map(new, grads, params, mu, nu)


def moment(opt: Any, name: str) -> Any:
    """optax's tree of first ("mu") or second ("nu") moments, wherever it is in the state."""
    found = [
        getattr(part, name) for part in jax.tree.leaves(opt, is_leaf=lambda x: hasattr(x, "mu")) if hasattr(part, name)
    ]
    assert len(found) == 1
    return found[0]


# ---- comparison --------------------------------------------------------------------------------------------------


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.asarray(leaf, np.float64).reshape(-1) for leaf in jax.tree.leaves(tree)])


def assert_near(ours: Any, theirs: Any, limit: float, what: str) -> None:
    a, b = flat(ours), flat(theirs)
    assert np.linalg.norm(a - b) <= limit * np.linalg.norm(b), (
        f"{what}: {np.linalg.norm(a - b) / np.linalg.norm(b):.2e}"
    )


def compare(accumulation: int) -> None:
    task, config, model = make_task(accumulation)
    state, batch = random_state(task, model), random_batch(config, model)
    before = {**jax.tree.map(np.array, {**state, "key": 0}), "key": jax.random.key(11)}  # the step donates its state
    with jax.set_mesh(task.mesh):
        placed = jax.tree.map(jax.device_put, state, task.shardings)
        after, metrics = task.train_step(placed, {name: jnp.asarray(leaf) for name, leaf in batch.items()})
    of_unets, of_text, losses = gradients(model, before, batch)
    np.testing.assert_allclose(metrics["per_sample"], losses, rtol=1e-5, err_msg="losses, in the order of the batch")
    norms = [np.linalg.norm(flat(tree)) for tree in of_unets]
    np.testing.assert_allclose(float(metrics["grad_norm"]), np.mean(norms), rtol=1e-5)
    for k, grads in enumerate(of_unets):
        at = lambda tree, k=k: jax.tree.map(lambda leaf: leaf[k], tree)  # noqa: E731
        # First moments reveal the gradient: mu' = b1 mu + (1 - b1) g, clipped.
        mu, nu = (at(moment(before["experts"]["opt"], name)) for name in ("mu", "nu"))
        new_mu = at(moment(after["experts"]["opt"], "mu"))
        seen = jax.tree.map(lambda new, old: (np.asarray(new, np.float64) - B1 * old) / (1 - B1), new_mu, mu)
        clipped = jax.tree.map(lambda g, k=k: np.asarray(g, np.float64) * min(1, CLIP / norms[k]), grads)
        assert_near(seen, clipped, 2e-5, f"gradient of expert {k}")
        # The optimizer, with the same gradient.
        old, new = at(before["experts"]["params"]), at(after["experts"]["params"])
        wanted = adamw(seen, old, mu, nu, 7)
        assert_near(
            jax.tree.map(lambda a, b: np.asarray(a, np.float64) - b, new, old),
            jax.tree.map(lambda a, b: a - b, wanted, old),
            1e-4,  # of the update, which is about 1e-3 of the parameters that fp32 rounds
            f"update of expert {k}",
        )
        decay = min(DECAY, 8 / 17)
        average = jax.tree.map(
            lambda e, p, decay=decay: decay * np.asarray(e, np.float64) + (1 - decay) * p,
            at(before["experts"]["ema"]),
            new,
        )
        assert_near(at(after["experts"]["ema"]), average, 1e-6, f"average of expert {k}")
    mu, new_mu = (moment(one["text_encoder"]["opt"], "mu") for one in (before, after))
    seen = jax.tree.map(lambda new, old: (np.asarray(new, np.float64) - B1 * old) / (1 - B1), new_mu, mu)
    clip = min(1.0, CLIP / np.linalg.norm(flat(of_text)))
    assert_near(
        seen, jax.tree.map(lambda g: np.asarray(g, np.float64) * clip, of_text), 2e-5, "gradient of the text encoder"
    )


@pytest.mark.parametrize(("accumulation", "platforms"), [pytest.param(1, (), marks=pytest.mark.hosts), (4, ("cpu",))])
def test_a_step_matches_the_formulas(
    accumulation: int, platforms: tuple[str, ...], compiled: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Micro-batches are one batch; and experts take turns in a loop or by a program, compiled once."""
    monkeypatch.setattr(in_turn, "PLATFORMS", platforms)
    with compiled() as programs:
        compare(accumulation)
    assert programs.count("jit(update_expert)" if platforms else "jit(train_step)") == 1


def halve_t(patch: pytest.MonkeyPatch) -> None:
    draw = Stages.draw
    patch.setattr(Stages, "draw", lambda *args: draw(*args) // 2)


def triple_accumulated(patch: pytest.MonkeyPatch) -> None:
    whole = step.gradients

    def tripled(*args: Any) -> Any:
        losses, grads, more = whole(*args)
        return losses, jax.tree.map(lambda leaf: 3 * leaf, grads), more

    patch.setattr(step, "gradients", tripled)


def freeze_average(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(step, "ema_update", lambda ema, *_: ema)


def widen_latents(patch: pytest.MonkeyPatch) -> None:
    draw = Model.draw_latents
    patch.setattr(Model, "draw_latents", lambda self, *args: 3 * draw(self, *args))


def forget_clipping(patch: pytest.MonkeyPatch) -> None:
    make = diffusion.make_optimizer

    def without(config: ConfigDict, section: ConfigDict) -> Any:
        config = config.copy_and_resolve_references()
        config.optimizer.clip_norm = 0.0
        return make(config, section)

    patch.setattr(diffusion, "make_optimizer", without)


def exchange_experts(patch: pytest.MonkeyPatch) -> None:
    range_of = Stages.range_of
    patch.setattr(Stages, "range_of", lambda self, stage: range_of(self, 1 - stage))


@pytest.mark.hosts
@pytest.mark.parametrize(
    "fault", [halve_t, triple_accumulated, freeze_average, widen_latents, forget_clipping, exchange_experts]
)
def test_it_would_notice(fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        compare(2)


def test_the_fields_of_a_state_are_those_that_are_compared() -> None:
    task, _, model = make_task(1)
    assert set(task.abstract) == {"step", "key", "autoencoder", "text_encoder", "experts"}
    assert set(task.abstract["experts"]) == {"params", "ema", "opt"}
    assert dataclasses.is_dataclass(model)
