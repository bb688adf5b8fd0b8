"""Training of the denoising experts: the phase `base` (one U-Net for all timesteps) and `experts` (one for each stage).

    batch [B] -> B/n pictures for each of the n experts in training
      expert k:  t ~ its own stage;  x_t = alpha x_0 + sigma e;  loss = |U-Net_k(x_t, t, text) - e|^2

`base` is the case of a single expert in charge of every timestep, so both phases are this one program. A sample's
gradient reaches the expert of its timestep and, where it is trained, the shared text encoder: nothing else.
The paper: mixture of denoising experts; the two steps of its training.
"""

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec
from ml_collections import ConfigDict

from ernie_vilg_jax.checkpointing import expert_name
from ernie_vilg_jax.diffusion.loss import loss_per_sample, min_snr_weights
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.model import Model
from ernie_vilg_jax.models.autoencoder import Posterior
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.sharding.compiler_options import compiler_options
from ernie_vilg_jax.training.flops import model_flops
from ernie_vilg_jax.training.optimizer import (
    ema_dtype,
    ema_init,
    ema_update,
    make_optimizer,
    skipped_updates,
    update_ratio,
)
from ernie_vilg_jax.training.task import Batch, Items, State
from ernie_vilg_jax.training.validation import Validation, Validator


class DiffusionTask:
    """State: {"step", "key", "autoencoder", "text_encoder": {...}, "experts": {...} with a leading expert axis}.

    Args:
      start: {"autoencoder": {"params", "mean", "std"}} and, for `experts`, {"unet", "text_encoder"}: the EMA of `base`
        that every expert and the text encoder begin as. Only needed by `init`.
      validation: fixed pictures, and the prompts of the previews.
      posteriors: of all training pictures, in the order of the records (data.cache_latents); None encodes every batch.
    """

    def __init__(
        self,
        config: ConfigDict,
        model: Model,
        mesh: Mesh,
        validation: Validation,
        start: dict[str, Any] | None = None,
        posteriors: Posterior | None = None,
    ) -> None:
        self.config = config
        self.model = model
        self.mesh = mesh
        self.validation = validation
        self.start = start
        self.posteriors = posteriors
        self.section = config.phases[config.phase]
        self.optimizer = make_optimizer(config, self.section)
        # What of a batch goes with its latents into a step. Without knowledge the step has no weights to multiply by.
        self.words: tuple[str, ...] = ("tokens", "token_mask")
        if config.knowledge.enabled and config.knowledge.attention_weight:
            self.words += ("token_weight",)
        if config.knowledge.enabled and config.knowledge.loss_weight:
            self.words += ("loss_weight",)
        self.steps: int = self.section.steps
        self.batch_size: int = self.section.batch_size
        if config.phase == "base":
            # The same stage number in the checkpoint whatever n is: the one expert is the base of all.
            self.stages = Stages((), model.schedule.num_timesteps)
            self.trained: tuple[int, ...] = (0,)
            self.train_text_encoder = True
        else:
            self.stages = model.stages
            self.trained = tuple(config.experts.train) or tuple(range(self.stages.n))
            self.train_text_encoder = bool(config.experts.train_text_encoder)
        unknown = [stage for stage in self.trained if not 0 <= stage < self.stages.n]
        if unknown or len(set(self.trained)) < len(self.trained):
            raise UserError(f"--config.experts.train={self.trained} must name different stages in [0, {self.stages.n})")
        self.experts = tuple(expert_name(stage) for stage in self.trained)
        groups = mesh.shape["expert"]
        if len(self.trained) % groups:
            fitting = [g for g in range(1, len(self.trained) + 1) if len(self.trained) % g == 0]
            raise UserError(
                f"--config.mesh.expert={groups} does not divide the {len(self.trained)} experts that {config.phase} "
                f"trains: it can be {', '.join(map(str, fitting))}"
            )
        pieces = len(self.trained) * self.section.accumulation_steps
        rules.check_batch(self.batch_size, pieces, mesh, f"phases.{config.phase}.batch_size")
        state = jax.eval_shape(self._new, jax.random.key(0), {"autoencoder": model.abstract_autoencoder()})
        self.shardings = self._place(state)
        self.abstract: State = rules.placed(state, self.shardings)

    # ---- state -----------------------------------------------------------------------------------------------------

    def _new(self, key: jax.Array, start: dict[str, Any]) -> State:
        unet_key, text_key, run = jax.random.split(key, 3)
        n, dtype = len(self.trained), ema_dtype(self.config)
        unet = start["unet"] if "unet" in start else self.model.init_unet(unet_key)
        text = start["text_encoder"] if "text_encoder" in start else self.model.init_text_encoder(text_key)
        bank = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], n, axis=0), unet)
        experts = {"params": bank, "ema": ema_init(bank, dtype), "opt": jax.vmap(self.optimizer.init)(bank)}
        text_encoder = {"ema": text}
        if self.train_text_encoder:
            text_encoder = {"params": text, "ema": ema_init(text, dtype), "opt": self.optimizer.init(text)}
        return {
            "step": jnp.int32(0),
            "key": run,
            "autoencoder": start["autoencoder"],
            "text_encoder": text_encoder,
            "experts": experts,
        }

    def _place(self, state: State) -> State:
        experts = rules.shardings(state["experts"], self.mesh, lead=("expert",))
        rest = {name: tree for name, tree in state.items() if name != "experts"}
        return {**rules.shardings(rest, self.mesh), "experts": experts}

    @property
    def parameters(self) -> dict[str, Any]:
        state = self.abstract
        trained = "trained" if self.train_text_encoder else "frozen"
        return {
            "autoencoder (frozen)": state["autoencoder"]["params"],
            f"text encoder ({trained})": state["text_encoder"]["ema"],
            f"experts ({len(self.trained)})": state["experts"]["ema"],
        }

    def init(self, key: jax.Array) -> State:
        assert self.start is not None, "a fresh state needs the autoencoder it works on"
        return jax.jit(self._new, out_shardings=self.shardings)(key, self.start)

    def items(self, state: State) -> Items:
        train = {"step": state["step"], "key": state["key"]}
        return {"train": train, "autoencoder": state["autoencoder"], "text_encoder": state["text_encoder"]}

    def state(self, items: Items) -> State:
        return {**items["train"], "autoencoder": items["autoencoder"], "text_encoder": items["text_encoder"]}

    def host_batch(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        words = {name: batch[name] for name in self.words}
        if self.posteriors is None:
            return {**words, "image": batch["image"]}
        return {**words, **{name: table[batch["index"]] for name, table in self.posteriors._asdict().items()}}

    # ---- one step --------------------------------------------------------------------------------------------------

    def _losses(
        self, unet: Any, text_encoder: Any, autoencoder: Any, batch: Batch, dropout: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Mean loss and per-sample losses [b] of one expert on examples with their timesteps and noise."""
        unet, text_encoder = (rules.gather(tree, self.mesh, self.config.dtype) for tree in (unet, text_encoder))
        latents = self._latents(autoencoder, batch)
        t, noise = batch["t"], batch["noise"]
        latents, batch, t, noise = rules.over_batch_axes((latents, batch, t, noise))
        text = self.model.encode_text(text_encoder, batch["tokens"], batch["token_mask"])
        noisy = self.model.schedule.add_noise(latents, noise, t)
        key = dropout if self.config.model.unet.dropout else None
        token_weight, loss_weight = batch.get("token_weight"), batch.get("loss_weight")
        prediction = self.model.prediction(unet, noisy, t, text, token_weight=token_weight, dropout=key)
        target = self.model.target(latents, noise, t)
        per_sample = loss_per_sample(prediction, target, loss_weight, self.config.knowledge.loss_weight_on)
        if gamma := self.config.diffusion.get("min_snr_gamma", 0.0):
            weights = min_snr_weights(self.model.schedule, gamma, self.model.prediction_type)
            per_sample *= jnp.asarray(weights, jnp.float32)[t]
        return per_sample.mean(), per_sample

    def _latents(self, autoencoder: Any, batch: Batch) -> jax.Array:
        """Unit-variance latents [b, h, w, c], drawn with the batch's own noise; images are encoded here."""
        if self.posteriors is None:
            posterior = self.model.posterior(autoencoder, rules.over_batch_axes(batch["image"]))
        else:
            posterior = Posterior(batch["mean"], batch["log_variance"])
        return self.model.draw_latents(autoencoder, posterior, batch["latent_noise"])

    def _expert_gradients(
        self, unet: Any, text: Any, autoencoder: Any, batch: Batch, stage: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Any, Any]:
        """Per-sample losses [b] and the gradients for the U-Net and the text encoder, over all micro-batches.

        Timesteps and noise are drawn for the whole share before it is cut, so that cutting it changes no sample.
        """
        time_key, noise_key, dropout_key = jax.random.split(key, 3)
        shape = batch["latent_noise"].shape
        batch = {
            **batch,
            "t": self.stages.draw(time_key, stage, shape[:1]),
            "noise": jax.random.normal(noise_key, shape),
        }
        pieces = self.section.accumulation_steps
        both = (0, 1) if self.train_text_encoder else 0
        function = jax.value_and_grad(self._losses, argnums=both, has_aux=True)

        def piece(batch: Batch, dropout: jax.Array) -> tuple[jax.Array, Any]:
            (_, per_sample), grads = function(unet, text, autoencoder, batch, dropout)
            return per_sample, grads if self.train_text_encoder else (grads, None)

        if pieces == 1:
            per_sample, grads = piece(batch, dropout_key)
            return per_sample, *grads

        def cut(leaf: jax.Array) -> jax.Array:
            """Every device keeps its own examples: piece i is every `pieces`-th of them, from i on."""
            return leaf.reshape(-1, pieces, *leaf.shape[1:]).swapaxes(0, 1)

        def body(total: Any, xs: Any) -> tuple[Any, jax.Array]:
            per_sample, grads = piece(*xs)
            return jax.tree.map(jnp.add, total, grads), per_sample

        zero = jax.tree.map(jnp.zeros_like, (unet, text if self.train_text_encoder else None))
        xs = (jax.tree.map(cut, batch), jax.random.split(dropout_key, pieces))
        total, per_sample = jax.lax.scan(body, zero, xs)
        return per_sample.swapaxes(0, 1).reshape(-1), *jax.tree.map(lambda leaf: leaf / pieces, total)

    def _train_experts(self, frozen: Any, step: jax.Array, experts: Any, xs: Any) -> tuple[Any, Any, Any]:
        """One update of each expert, one after the other, in the memory of the bank.

        Args:
          frozen: (text encoder, autoencoder): what no expert changes.
          experts: {"params", "ema", "opt"} with a leading expert axis.
          xs: (batch, stages, keys), all with a leading expert axis.

        Returns:
          The text encoder's gradients (summed, over the number of experts in training; None if it is frozen), the
          experts, and (per-sample losses [n, b], norms of gradients and relative ones of updates [n, 2]).
        """
        count, (text_params, autoencoder) = len(self.trained), frozen
        here, share = xs[1].shape[0], jax.tree.leaves(xs[0])[0].shape[1]

        def one(k: Any, experts: Any, text_grads: Any) -> tuple[Any, Any, jax.Array, jax.Array]:
            """The k-th expert, updated; the gradients so far; losses [b]; norms of its gradient and its update [2]."""
            at = lambda leaf: jax.lax.dynamic_index_in_dim(leaf, k, keepdims=False)  # noqa: E731
            expert, (batch, stage, key) = jax.tree.map(at, (experts, xs))
            per_sample, grads, more = self._expert_gradients(
                expert["params"], text_params, autoencoder, batch, stage, key
            )
            updates, opt = self.optimizer.update(grads, expert["opt"], expert["params"])
            params = optax.apply_updates(expert["params"], updates)
            ema = ema_update(expert["ema"], params, step, self.section.ema_decay)
            text_grads = jax.tree.map(lambda total, grad: total + grad / count, text_grads, more)
            of_step = jnp.stack([optax.tree.norm(grads), update_ratio(updates, params)])
            return {"params": params, "ema": ema, "opt": opt}, text_grads, per_sample, of_step

        text_grads = jax.tree.map(jnp.zeros_like, text_params) if self.train_text_encoder else None
        if here == 1 or self.mesh.devices.flat[0].platform == "cpu":
            # XLA runs convolutions inside a loop on one CPU thread: 8 images a second on two cores instead of 75.
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

        # Not a scan: with the bank as its inputs and its outputs that would hold it twice.
        carry = (experts, text_grads, jnp.zeros((here, share)), jnp.zeros((here, 2)))
        experts, text_grads, losses, norms = jax.lax.fori_loop(0, here, in_place, carry)
        return text_grads, experts, (losses, norms)

    def _by_groups(self, frozen: Any, step: jax.Array, experts: Any, xs: Any) -> tuple[Any, Any, Any]:
        """`_train_experts`, each group of devices along the mesh axis `expert` with its own experts only.

        Nothing of a U-Net crosses that axis; the gradients of a trained text encoder are summed over it.
        """

        def group(frozen: Any, step: jax.Array, experts: Any, xs: Any) -> tuple[Any, Any, Any]:
            text_grads, *rest = self._train_experts(frozen, step, experts, xs)
            return jax.tree.map(lambda grad: jax.lax.psum(grad, "expert"), text_grads), *rest

        own = PartitionSpec("expert")
        whole = PartitionSpec()
        specs = {"in_specs": (whole, whole, own, own), "out_specs": (whole, own, own)}
        # Unchecked, since kernels inside (splash_attention.py) do not say what their results vary along; and so that
        # jax does not sum each gradient over the groups where the parameter is used.
        return jax.shard_map(group, mesh=self.mesh, **specs, axis_names={"expert"}, check_vma=False)(
            frozen, step, experts, xs
        )

    def _train_step(self, state: State, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
        n, step = len(self.trained), state["step"]
        encode_key, loss_key = jax.random.split(jax.random.fold_in(state["key"], step))
        shape = (batch["tokens"].shape[0], *self.model.latent_shape)
        batch = {**batch, "latent_noise": jax.random.normal(encode_key, shape)}
        text_params = state["text_encoder"]["params" if self.train_text_encoder else "ema"]
        cut = lambda a: rules.over_batch_axes(a.reshape(n, -1, *a.shape[1:]), lead=("expert",))  # noqa: E731
        stages = jnp.asarray(self.trained, jnp.int32)
        keys = jax.vmap(lambda stage: jax.random.fold_in(loss_key, stage))(stages)

        run = self._train_experts if self.mesh.shape["expert"] == 1 else self._by_groups
        xs = ({name: cut(leaf) for name, leaf in batch.items()}, stages, keys)
        text_grads, experts, (per_sample, norms) = run((text_params, state["autoencoder"]), step, state["experts"], xs)
        text_encoder = state["text_encoder"]
        if self.train_text_encoder:
            updates, opt = self.optimizer.update(text_grads, text_encoder["opt"], text_params)
            params = optax.apply_updates(text_params, updates)
            ema = ema_update(text_encoder["ema"], params, step, self.section.ema_decay)
            text_encoder = {"params": params, "ema": ema, "opt": opt}
        new = {**state, "step": step + 1, "experts": experts, "text_encoder": text_encoder}
        metrics = {"loss": per_sample.mean(), "per_sample": per_sample.reshape(-1)}
        metrics |= {"grad_norm": norms[:, 0].mean(), "update_ratio": norms[:, 1].mean()}
        metrics |= skipped_updates(experts["opt"], text_encoder.get("opt"))
        if n > 1:
            metrics |= {f"loss_{expert_name(stage)}": per_sample[k].mean() for k, stage in enumerate(self.trained)}
        return new, metrics

    @cached_property
    def train_step(self) -> Any:
        return jax.jit(
            self._train_step,
            donate_argnums=0,
            out_shardings=(self.shardings, rules.replicated(self.mesh)),
            compiler_options=compiler_options(self.mesh),
        )

    def flops_per_step(self, batch: Batch) -> float:
        return model_flops(self, batch)

    # ---- validation and previews -----------------------------------------------------------------------------------

    @cached_property
    def _validator(self) -> Validator:
        return Validator(self.config, self.model, self.mesh, self.stages, self.trained)

    def validate(self, state: State) -> dict[str, float]:
        """Unweighted loss on plain captions, for each stage and their mean over timesteps."""
        return self._validator.losses(state, self.validation)

    def preview(self, state: State) -> tuple[np.ndarray, list[str]]:
        return self._validator.preview(state, self.validation)
