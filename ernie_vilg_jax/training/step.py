"""A training step of the experts, as pure functions.

    train_step
      begin ─ draws the noise of the latents, gives each expert its share of the batch
      each_expert | each_group
        update_expert ─ draw ─────── timesteps and noise of the share
                        gradients ── loss, over micro-batches
                        update ───── optimizer and average
      finish ─ text encoder and metrics

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

Turns = tuple[Any, Params | None, jax.Array, jax.Array]
"""A bank whose experts take turns: the experts; the text encoder's gradients so far, summed, over the number of experts
in training (None if it is frozen); losses of each sample [n, b]; norms of gradients and updates [n, 2]."""


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
    shares = (*begin(setup, state, batch), adapted(state))
    each = each_expert if setup.mesh.shape["expert"] == 1 else each_group
    return finish(setup, state, *each(setup, frozen_parts(setup, state), state["step"], state["experts"], shares))


def frozen_parts(setup: Setup, state: State) -> Any:
    """What no expert changes: (text encoder, {"autoencoder", "text_encoder"}).

    The last is what adapters of the text encoder are added to, or None.
    """
    base = state.get("base", {}).get("text_encoder")
    text = state["text_encoder"]["params" if setup.trains_text_encoder else "ema"]
    return text, {"autoencoder": state["autoencoder"], "text_encoder": base}


def adapted(state: State) -> Any:
    """The U-Nets that adapters are added to, with a leading expert axis; None without adapters."""
    return state.get("base", {}).get("experts")


def begin(setup: Setup, state: State, batch: Batch) -> tuple[Batch, jax.Array, jax.Array]:
    """The experts' shares of the batch, their stages and their keys, all with a leading expert axis."""
    encode_key, loss_key = jax.random.split(jax.random.fold_in(state["key"], state["step"]))
    batch = {**batch, "latent_noise": jax.random.normal(encode_key, latent_shape(setup.model, batch))}
    stages = jnp.asarray(setup.trained, jnp.int32)
    keys = jax.vmap(lambda stage: jax.random.fold_in(loss_key, stage))(stages)
    n = len(setup.trained)
    cut = lambda a: rules.over_batch_axes(a.reshape(n, -1, *a.shape[1:]), lead=("expert",))  # noqa: E731
    return {name: cut(leaf) for name, leaf in batch.items()}, stages, keys


def finish(
    setup: Setup, state: State, experts: Any, text_grads: Params | None, per_sample: jax.Array, norms: jax.Array
) -> tuple[State, dict[str, jax.Array]]:
    """The state and the metrics after the turn of each expert (`each_expert`); updates a text encoder in training."""
    step, text = state["step"], state["text_encoder"]
    if setup.trains_text_encoder:
        text, _ = update(setup, text, text_grads, step)
    metrics = {"loss": per_sample.mean(), "per_sample": per_sample.reshape(-1)}
    metrics |= {"grad_norm": norms[:, 0].mean(), "update_ratio": norms[:, 1].mean()}
    metrics |= skipped_updates(experts["opt"], text.get("opt"))
    if len(setup.trained) > 1:
        metrics |= {f"loss_{expert_name(stage)}": per_sample[k].mean() for k, stage in enumerate(setup.trained)}
    return {**state, "step": step + 1, "experts": experts, "text_encoder": text}, metrics


def latent_shape(model: Model, batch: Batch) -> tuple[int, ...]:
    """[B, h, w, c] of the latents of a batch."""
    if "mean" in batch:
        return batch["mean"].shape
    count, height, width, _ = batch["image"].shape
    return count, *model.latent_shape_of(height, width)


def each_expert(setup: Setup, frozen: Any, step: jax.Array, experts: Any, shares: Any) -> Turns:
    """One update of each expert, one after the other, in the memory of the bank.

    Args:
      frozen: see `frozen_parts`.
      experts: {"params", "ema", "opt"} with a leading expert axis.
      shares: what `begin` and `adapted` return, of these experts.
    """
    batch, stages, *_ = shares
    n = len(stages)

    def in_place(k: Any, turns: Turns) -> Turns:
        experts, text_grads, losses, norms = turns
        expert, text_grads, per_sample, norm = update_expert(setup, frozen, step, experts, shares, k, text_grads)
        put = lambda leaf, new: jax.lax.dynamic_update_index_in_dim(leaf, new, k, 0)  # noqa: E731
        return jax.tree.map(put, experts, expert), text_grads, put(losses, per_sample), put(norms, norm)

    no_losses, no_norms = jnp.zeros(batch["latent_noise"].shape[:2]), jnp.zeros((n, 2))
    turns = experts, no_gradients(setup, frozen), no_losses, no_norms
    # Not a scan: with the bank as both input and output it would hold the bank twice.
    return in_place(0, turns) if n == 1 else jax.lax.fori_loop(0, n, in_place, turns)


def no_gradients(setup: Setup, frozen: Any) -> Params | None:
    """The text encoder's gradients before the first turn."""
    return jax.tree.map(jnp.zeros_like, frozen[0]) if setup.trains_text_encoder else None


def each_group(setup: Setup, frozen: Any, step: jax.Array, experts: Any, shares: Any) -> Turns:
    """`each_expert`, if each group of devices along the mesh axis `expert` has its own experts only.

    No parameter or gradient of a U-Net crosses that axis; the gradients of a trained text encoder are summed over it.
    """

    def group(*args: Any) -> Turns:
        experts, text_grads, losses, norms = each_expert(setup, *args)
        return experts, jax.tree.map(lambda grad: jax.lax.psum(grad, "expert"), text_grads), losses, norms

    own, whole = PartitionSpec("expert"), PartitionSpec()
    specs = {"in_specs": (whole, whole, own, own), "out_specs": (own, whole, own, own)}
    # Unchecked, because kernels inside (splash_attention.py) do not declare the axes along which their results vary;
    # and so that jax does not sum each gradient over the groups where the parameter is used.
    return jax.shard_map(group, mesh=setup.mesh, **specs, axis_names={"expert"}, check_vma=False)(
        frozen, step, experts, shares
    )


def update_expert(
    setup: Setup, frozen: Any, step: jax.Array, experts: Any, shares: Any, k: Any, text_grads: Params | None
) -> Turns:
    """The k-th expert of a bank, updated; gradients so far; losses [b]; norms of its gradient and its update [2]."""
    at = lambda leaf: jax.lax.dynamic_index_in_dim(leaf, k, keepdims=False)  # noqa: E731
    expert, (share, stage, key, base) = jax.tree.map(at, (experts, shares))
    text_params, fixed = frozen
    examples, dropout = draw(setup, share, stage, key)
    fixed = {**fixed, "unet": base}
    per_sample, grads, more = gradients(setup, expert["params"], text_params, fixed, examples, dropout)
    new, updates = update(setup, expert, grads, step)
    text_grads = jax.tree.map(lambda total, grad: total + grad / len(setup.trained), text_grads, more)
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
