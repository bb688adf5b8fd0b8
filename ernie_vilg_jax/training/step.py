"""A training step of the experts, as pure functions.

    train_step ─ draws the noise of the latents, gives each expert its share of the batch
      each_expert | each_group
        update_expert ─ draw ─────── timesteps and noise of the share
                        gradients ── loss, over micro-batches
                        update ───── optimizer and average

A sample's gradient reaches only the expert of its timestep and, if it is trained, the shared text encoder.
The paper: mixture of denoising experts.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from ernie_vilg_jax.checkpointing import expert_name
from ernie_vilg_jax.diffusion.loss import loss_per_sample
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.model import Model, Params
from ernie_vilg_jax.models import lora
from ernie_vilg_jax.models.autoencoder import Posterior
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.training.optimizer import ema_update, skipped_updates, update_ratio
from ernie_vilg_jax.training.task import Batch, State

UNROLLED = ("cpu",)
"""Platforms on which experts take their turns outside a loop, a copy of the step for each. XLA runs convolutions inside
a loop on one CPU thread: 8 images a second on two cores instead of 75."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """The constants of all steps.

    Attributes:
      trained: the stages whose experts are trained, in the order of the stack `state["experts"]`.
      pieces: micro-batches of an expert's share.
      dtype: in which parameters sharded along `fsdp` are gathered.
      loss_weight_on: see `loss_per_sample`.
      time_weights: [T] float32, a factor of the loss for each timestep (min-SNR); None without min-SNR.
      lora_scale: of the adapters, if adapters are trained (`state["base"]`).
    """

    model: Model
    mesh: Mesh
    stages: Stages
    trained: tuple[int, ...]
    optimizer: optax.GradientTransformation
    ema_decay: float
    pieces: int
    trains_text_encoder: bool
    dtype: str
    dropout: bool
    loss_weight_on: Any
    time_weights: np.ndarray | None
    lora_scale: float = 0.0


def train_step(setup: Setup, state: State, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
    """One update of every expert in training, and of the text encoder if it is trained.

    Args:
      state: see `DiffusionTask`.
      batch: "image" [B, H, W, 3] uint8, or "mean" and "log_variance" [B, h, w, c] of any floating dtype; "tokens" and
        "token_mask" [B, L]; with knowledge "token_weight" [B, L] and "loss_weight" [B, h, w]. The first B/n are those
        of the first expert. Each shape is compiled once.

    Returns:
      The state, and the metrics "loss", "grad_norm", "update_ratio" and "loss_expert_NN", all scalars, and
      "per_sample" [B].
    """
    n, step, text = len(setup.trained), state["step"], state["text_encoder"]
    encode_key, loss_key = jax.random.split(jax.random.fold_in(state["key"], step))
    batch = {**batch, "latent_noise": jax.random.normal(encode_key, latent_shape(setup.model, batch))}
    text_params = text["params" if setup.trains_text_encoder else "ema"]
    stages = jnp.asarray(setup.trained, jnp.int32)
    keys = jax.vmap(lambda stage: jax.random.fold_in(loss_key, stage))(stages)
    cut = lambda a: rules.over_batch_axes(a.reshape(n, -1, *a.shape[1:]), lead=("expert",))  # noqa: E731
    base = state.get("base", {"experts": None, "text_encoder": None})
    shares = ({name: cut(leaf) for name, leaf in batch.items()}, stages, keys, base["experts"])

    each = each_expert if setup.mesh.shape["expert"] == 1 else each_group
    frozen = text_params, {"autoencoder": state["autoencoder"], "text_encoder": base["text_encoder"]}
    text_grads, experts, (per_sample, norms) = each(setup, frozen, step, state["experts"], shares)
    if setup.trains_text_encoder:
        text, _ = update(setup, text, text_grads, step)

    metrics = {"loss": per_sample.mean(), "per_sample": per_sample.reshape(-1)}
    metrics |= {"grad_norm": norms[:, 0].mean(), "update_ratio": norms[:, 1].mean()}
    metrics |= skipped_updates(experts["opt"], text.get("opt"))
    if n > 1:
        metrics |= {f"loss_{expert_name(stage)}": per_sample[k].mean() for k, stage in enumerate(setup.trained)}
    return {**state, "step": step + 1, "experts": experts, "text_encoder": text}, metrics


def latent_shape(model: Model, batch: Batch) -> tuple[int, ...]:
    """[B, h, w, c] of the latents of a batch."""
    if "mean" in batch:
        return batch["mean"].shape
    count, height, width, _ = batch["image"].shape
    return count, *model.latent_shape_of(height, width)


def each_expert(setup: Setup, frozen: Any, step: jax.Array, experts: Any, shares: Any) -> tuple[Any, Any, Any]:
    """One update of each expert, one after the other, in the memory of the bank.

    Args:
      frozen: (text encoder, {"autoencoder", "text_encoder"}), which no expert changes; the last is what adapters of
        the text encoder are added to, or None.
      experts: {"params", "ema", "opt"} with a leading expert axis.
      shares: (batch, stages, keys, U-Nets that adapters are added to or None), all with a leading expert axis.

    Returns:
      The text encoder's gradients (summed, over the number of experts in training; None if it is frozen), the
      experts, and (per-sample losses [n, b], norms of gradients and relative norms of updates [n, 2]).
    """

    def one(k: Any, experts: Any, text_grads: Any) -> tuple[Any, Any, jax.Array, jax.Array]:
        """The k-th expert, updated; the gradients so far; losses [b]; norms of its gradient and its update [2]."""
        at = lambda leaf: jax.lax.dynamic_index_in_dim(leaf, k, keepdims=False)  # noqa: E731
        expert, share = jax.tree.map(at, (experts, shares))
        expert, more, per_sample, norms = update_expert(setup, frozen, step, expert, *share)
        add = lambda total, grad: total + grad / len(setup.trained)  # noqa: E731
        return expert, jax.tree.map(add, text_grads, more), per_sample, norms

    here, samples = shares[1].shape[0], jax.tree.leaves(shares[0])[0].shape[1]
    text_grads = jax.tree.map(jnp.zeros_like, frozen[0]) if setup.trains_text_encoder else None
    if here == 1 or setup.mesh.devices.flat[0].platform in UNROLLED:
        found = []
        for k in range(here):
            expert, text_grads, *rest = one(k, experts, text_grads)
            found.append((expert, *rest))
        experts, losses, norms = jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
        return text_grads, experts, (losses, norms)

    def in_place(k: jax.Array, carry: Any) -> Any:
        experts, text_grads, losses, norms = carry
        expert, text_grads, per_sample, norm = one(k, experts, text_grads)
        put = lambda leaf, new: jax.lax.dynamic_update_index_in_dim(leaf, new, k, 0)  # noqa: E731
        return jax.tree.map(put, experts, expert), text_grads, put(losses, per_sample), put(norms, norm)

    # Not a scan: with the bank as both input and output it would hold the bank twice.
    carry = (experts, text_grads, jnp.zeros((here, samples)), jnp.zeros((here, 2)))
    experts, text_grads, losses, norms = jax.lax.fori_loop(0, here, in_place, carry)
    return text_grads, experts, (losses, norms)


def each_group(setup: Setup, frozen: Any, step: jax.Array, experts: Any, shares: Any) -> tuple[Any, Any, Any]:
    """`each_expert`, if each group of devices along the mesh axis `expert` has its own experts only.

    No parameter or gradient of a U-Net crosses that axis; the gradients of a trained text encoder are summed over it.
    """

    def group(frozen: Any, step: jax.Array, experts: Any, shares: Any) -> tuple[Any, Any, Any]:
        text_grads, *rest = each_expert(setup, frozen, step, experts, shares)
        return jax.tree.map(lambda grad: jax.lax.psum(grad, "expert"), text_grads), *rest

    own, whole = PartitionSpec("expert"), PartitionSpec()
    specs = {"in_specs": (whole, whole, own, own), "out_specs": (whole, own, own)}
    # Unchecked, because kernels inside (splash_attention.py) do not declare the axes along which their results vary;
    # and so that jax does not sum each gradient over the groups where the parameter is used.
    return jax.shard_map(group, mesh=setup.mesh, **specs, axis_names={"expert"}, check_vma=False)(
        frozen, step, experts, shares
    )


def update_expert(
    setup: Setup, frozen: Any, step: jax.Array, expert: Any, share: Batch, stage: jax.Array, key: jax.Array, base: Any
) -> tuple[Any, Params | None, jax.Array, jax.Array]:
    """One expert and its share of the batch -> the expert, gradients of the text encoder, losses [b], norms [2]."""
    text_params, fixed = frozen
    examples, dropout = draw(setup, share, stage, key)
    fixed = {**fixed, "unet": base}
    per_sample, grads, text_grads = gradients(setup, expert["params"], text_params, fixed, examples, dropout)
    new, updates = update(setup, expert, grads, step)
    return new, text_grads, per_sample, jnp.stack([optax.tree.norm(grads), update_ratio(updates, new["params"])])


def draw(setup: Setup, share: Batch, stage: jax.Array, key: jax.Array) -> tuple[Batch, jax.Array]:
    """`share` with timesteps "t" [b] of `stage` and "noise" [b, h, w, c]; and a key for dropout.

    Drawn for the whole share before it is split into micro-batches, so that the split changes no sample.
    """
    time_key, noise_key, dropout_key = jax.random.split(key, 3)
    shape = share["latent_noise"].shape
    times = setup.stages.draw(time_key, stage, shape[:1])
    return {**share, "t": times, "noise": jax.random.normal(noise_key, shape)}, dropout_key


def gradients(
    setup: Setup, unet: Params, text_encoder: Params, fixed: Any, examples: Batch, dropout: jax.Array
) -> tuple[jax.Array, Params, Params | None]:
    """Losses [b], and the mean gradients for the U-Net and, if it is trained, the text encoder (or their adapters)."""
    both = (0, 1) if setup.trains_text_encoder else 0
    function = jax.value_and_grad(lambda *args: loss(setup, *args), argnums=both, has_aux=True)

    def piece(examples: Batch, dropout: jax.Array) -> tuple[jax.Array, Any]:
        (_, per_sample), grads = function(unet, text_encoder, fixed, examples, dropout)
        return per_sample, grads if setup.trains_text_encoder else (grads, None)

    if setup.pieces == 1:
        per_sample, grads = piece(examples, dropout)
        return per_sample, *grads

    def cut(leaf: jax.Array) -> jax.Array:
        """Every device keeps its own examples: piece i is every `pieces`-th of them, from i on."""
        return leaf.reshape(-1, setup.pieces, *leaf.shape[1:]).swapaxes(0, 1)

    def accumulate(total: Any, xs: Any) -> tuple[Any, jax.Array]:
        per_sample, grads = piece(*xs)
        return jax.tree.map(jnp.add, total, grads), per_sample

    zero = jax.tree.map(jnp.zeros_like, (unet, text_encoder if setup.trains_text_encoder else None))
    xs = (jax.tree.map(cut, examples), jax.random.split(dropout, setup.pieces))
    total, per_sample = jax.lax.scan(accumulate, zero, xs)
    return per_sample.swapaxes(0, 1).reshape(-1), *jax.tree.map(lambda leaf: leaf / setup.pieces, total)


def loss(
    setup: Setup, unet: Params, text_encoder: Params, fixed: Any, examples: Batch, dropout: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean loss and per-sample losses [b] of one expert on examples with their timesteps and noise.

    `fixed` is {"autoencoder", "unet", "text_encoder"}; the last two are None unless `unet` and `text_encoder` are
    adapters of them.
    """
    model = setup.model
    unet, text_encoder = (whole(setup, *one) for one in ((unet, fixed["unet"]), (text_encoder, fixed["text_encoder"])))
    x0 = latents(setup, fixed["autoencoder"], examples)
    x0, examples, t, noise = rules.over_batch_axes((x0, examples, examples["t"], examples["noise"]))
    text = model.encode_text(text_encoder, examples["tokens"], examples["token_mask"])
    noisy = model.schedule.add_noise(x0, noise, t)
    prediction = model.prediction(
        unet, noisy, t, text, token_weight=examples.get("token_weight"), dropout=dropout if setup.dropout else None
    )
    target = model.target(x0, noise, t)
    per_sample = loss_per_sample(prediction, target, examples.get("loss_weight"), setup.loss_weight_on)
    if setup.time_weights is not None:
        per_sample *= jnp.asarray(setup.time_weights, jnp.float32)[t]
    return per_sample.mean(), per_sample


def whole(setup: Setup, trained: Params, base: Params | None) -> Params:
    """The parameters of a network, gathered: what is trained, or `base` with it as adapters."""
    params = rules.gather(trained if base is None else base, setup.mesh, setup.dtype)
    return params if base is None else lora.merged(params, trained, setup.lora_scale)


def latents(setup: Setup, autoencoder: Any, examples: Batch) -> jax.Array:
    """Unit-variance latents [b, h, w, c], drawn with the examples' own noise; images are encoded here."""
    if "image" in examples:
        posterior = setup.model.posterior(autoencoder, rules.over_batch_axes(examples["image"]))
    else:
        mean, log_variance = (examples[name].astype(jnp.float32) for name in ("mean", "log_variance"))
        posterior = Posterior(mean, log_variance)
    return setup.model.draw_latents(autoencoder, posterior, examples["latent_noise"])


def update(setup: Setup, trained: Any, grads: Params, step: jax.Array) -> tuple[Any, Params]:
    """{"params", "ema", "opt"} of an expert or the text encoder after a step, and the updates of its parameters."""
    updates, opt = setup.optimizer.update(grads, trained["opt"], trained["params"])
    params = optax.apply_updates(trained["params"], updates)
    ema = ema_update(trained["ema"], params, step, setup.ema_decay)
    return {"params": params, "ema": ema, "opt": opt}, updates
