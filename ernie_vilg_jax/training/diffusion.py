"""Training of the denoising experts: the phase `base` (one U-Net for all timesteps) and `experts` (one for each stage).

    batch [B] -> B/n images for each of the n experts in training
      expert k:  t ~ its own stage;  x_t = alpha x_0 + sigma e;  loss = |U-Net_k(x_t, t, text) - e|^2

`base` is the case of a single expert in charge of every timestep, so both phases are one program. A sample's
gradient reaches only the expert of its timestep and, if it is trained, the shared text encoder.
The paper: mixture of denoising experts; the two steps of its training.
"""

from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax.checkpointing import expert_name
from ernie_vilg_jax.diffusion.loss import min_snr_weights
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.model import Model
from ernie_vilg_jax.models.autoencoder import Posterior
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.sharding.compiler_options import compiler_options
from ernie_vilg_jax.training import in_turn
from ernie_vilg_jax.training.adapters import Adapters
from ernie_vilg_jax.training.flops import model_flops
from ernie_vilg_jax.training.optimizer import (
    ema_dtype,
    ema_init,
    make_optimizer,
)
from ernie_vilg_jax.training.step import Setup, train_step
from ernie_vilg_jax.training.task import Batch, Feed, Items, State
from ernie_vilg_jax.training.validation import Validation, Validator

FIXED = ("autoencoder", "base")
"""Parts of the state that a run with adapters does not change, and does not save."""


class DiffusionTask:
    """State: {"step", "key", "autoencoder", "text_encoder": {...}, "experts": {...} with a leading expert axis}.

    With adapters (`config.lora`), "text_encoder" and "experts" hold those, and "base" what they are added to:
    {"experts", "text_encoder"}. Base and autoencoder are then in no checkpoint of the run.

    Args:
      start: {"autoencoder": {"params", "mean", "std"}} and, for `experts`, "text_encoder" and "unet" or "experts": the
        averages that the text encoder and every expert, or each of the trained ones, begin as. Only needed by `init`,
        and with adapters.
      notes: more metadata of the run's checkpoints.
      validation: fixed images, and the prompts of the previews.
      posteriors: of all training images, in the order of the records (data.cache_latents); None takes what batches
        have: images, which a step encodes, or posteriors.
      resident: draws the batches in place of a loader (data.resident).
    """

    def __init__(
        self,
        config: ConfigDict,
        model: Model,
        mesh: Mesh,
        validation: Validation,
        start: dict[str, Any] | None = None,
        posteriors: Posterior | None = None,
        resident: Feed | None = None,
        notes: dict[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.notes: dict[str, Any] = notes or {}
        self.adapters = Adapters.of(config)
        self.model = model
        self.mesh = mesh
        self.validation = validation
        self.start = start
        self.posteriors = posteriors
        self.resident = resident
        self.section = config.phases[config.phase]
        self.optimizer = make_optimizer(config, self.section)
        # The arrays of a batch that a step needs beside the latents. Without knowledge there are no weights.
        self.words: tuple[str, ...] = ("tokens", "token_mask")
        if config.knowledge.enabled and config.knowledge.attention_weight:
            self.words += ("token_weight",)
        if config.knowledge.enabled and config.knowledge.loss_weight:
            self.words += ("loss_weight",)
        self.steps: int = self.section.steps
        self.batch_size: int = self.section.batch_size
        if config.phase == "base":
            # The stage number in the checkpoint does not depend on n: the single expert is the base of all.
            self.stages = Stages((), model.schedule.num_timesteps)
            self.trained: tuple[int, ...] = (0,)
            self.train_text_encoder = True
        else:
            self.stages = model.stages
            self.trained = tuple(config.experts.train) or tuple(range(self.stages.n))
            self.train_text_encoder = bool(config.experts.train_text_encoder)
        if self.adapters is not None:
            self.train_text_encoder = bool(self.adapters.text_targets)
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
        # Of networks whose shapes are known: those of the paper take seconds to trace.
        parts = {name: getattr(model, f"abstract_{name}")() for name in ("autoencoder", "text_encoder", "unet")}
        state = jax.eval_shape(self._new, jax.random.key(0), parts)
        self.shardings = self._place(state)
        self.abstract: State = rules.placed(state, self.shardings)

    # ---- state -----------------------------------------------------------------------------------------------------

    def _new(self, key: jax.Array, start: dict[str, Any]) -> State:
        unet_key, text_key, run = jax.random.split(key, 3)
        n, dtype = len(self.trained), ema_dtype(self.config)
        text = start["text_encoder"] if "text_encoder" in start else self.model.init_text_encoder(text_key)
        if "experts" in start:
            bank = jax.tree.map(lambda *leaves: jnp.stack(leaves), *start["experts"])
        else:
            unet = start["unet"] if "unet" in start else self.model.init_unet(unet_key)
            bank = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], n, axis=0), unet)
        fixed = {"autoencoder": start["autoencoder"]}
        if self.adapters is not None:
            fixed["base"] = {"experts": bank, "text_encoder": text}
            bank, text = self.adapters.init(bank, text, unet_key, text_key)
        experts = {"params": bank, "ema": ema_init(bank, dtype), "opt": jax.vmap(self.optimizer.init)(bank)}
        text_encoder = {"ema": text}
        if self.train_text_encoder:
            text_encoder = {"params": text, "ema": ema_init(text, dtype), "opt": self.optimizer.init(text)}
        return {"step": jnp.int32(0), "key": run, "text_encoder": text_encoder, "experts": experts, **fixed}

    def _place(self, state: State) -> State:
        experts = rules.shardings(state["experts"], self.mesh, lead=("expert",))
        rest = {name: tree for name, tree in state.items() if name != "experts"}
        placed = {**rules.shardings(rest, self.mesh), "experts": experts}
        if "base" in placed:
            placed["base"]["experts"] = rules.shardings(state["base"]["experts"], self.mesh, lead=("expert",))
        return placed

    @property
    def parameters(self) -> dict[str, Any]:
        state = self.abstract
        trained = "trained" if self.train_text_encoder else "frozen"
        parts = {"autoencoder (frozen)": state["autoencoder"]["params"]}
        if self.adapters is not None:
            parts["text encoder and experts (frozen)"] = state["base"]
            trained = "adapters"
        return {
            **parts,
            f"text encoder ({trained})": state["text_encoder"]["ema"],
            f"experts ({len(self.trained)})": state["experts"]["ema"],
        }

    def init(self, key: jax.Array) -> State:
        assert self.start is not None, "a fresh state needs the autoencoder it works on"
        return self.initial(key, self.start)

    @cached_property
    def initial(self) -> Any:
        """Jitted (key, start) -> a fresh state."""
        return jax.jit(self._new, out_shardings=self.shardings)

    @property
    def fixed(self) -> State:
        if self.adapters is None:
            return {}
        assert self.start is not None, "adapters need what they are added to"
        shardings = {name: self.shardings[name] for name in FIXED}
        make: Any = lambda start: {name: self._new(jax.random.key(0), start)[name] for name in FIXED}  # noqa: E731
        return jax.jit(make, out_shardings=shardings)(self.start)

    def items(self, state: State) -> Items:
        items = {"train": {"step": state["step"], "key": state["key"]}}
        if self.adapters is None:
            return {**items, "autoencoder": state["autoencoder"], "text_encoder": state["text_encoder"]}
        return {**items, "text_encoder": state["text_encoder"]} if self.train_text_encoder else items

    def state(self, items: Items) -> State:
        rest = {name: items[name] for name in ("autoencoder", "text_encoder") if name in items}
        return {"text_encoder": {"ema": {}}, **items["train"], **rest}

    def host_batch(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [*self.words, *(name for name in ("image", "mean", "log_variance") if name in batch)]
        if self.posteriors is None:
            return {name: batch[name] for name in names}
        words = {name: batch[name] for name in self.words}
        return {**words, **{name: table[batch["index"]] for name, table in self.posteriors._asdict().items()}}

    # ---- what is trained -------------------------------------------------------------------------------------------

    @property
    def setup(self) -> Setup:
        """The parts of a training step, from the config."""
        gamma = self.config.diffusion.get("min_snr_gamma", 0.0)
        return Setup(
            model=self.model,
            mesh=self.mesh,
            stages=self.stages,
            trained=self.trained,
            optimizer=self.optimizer,
            ema_decay=self.section.ema_decay,
            pieces=self.section.accumulation_steps,
            trains_text_encoder=self.train_text_encoder,
            dtype=self.config.dtype,
            dropout=bool(self.config.model.unet.dropout),
            loss_weight_on=self.config.knowledge.loss_weight_on,
            time_weights=min_snr_weights(self.model.schedule, gamma, self.model.prediction_type) if gamma else None,
            lora_scale=0.0 if self.adapters is None else self.adapters.scale,
        )

    @cached_property
    def train_step(self) -> Any:
        setup = self.setup
        whole = jax.jit(
            partial(train_step, setup),
            donate_argnums=0,
            out_shardings=(self.shardings, rules.replicated(self.mesh)),
            compiler_options=compiler_options(self.mesh),
        )
        return in_turn.InTurn(setup, whole, self.shardings) if in_turn.is_faster(setup) else whole

    def flops_per_step(self, batch: Batch) -> float:
        return model_flops(self, batch)

    # ---- validation and previews -----------------------------------------------------------------------------------

    @cached_property
    def _validator(self) -> Validator:
        return Validator(self.config, self.model, self.mesh, self.stages, self.trained)

    def validate(self, state: State) -> dict[str, float]:
        """Unweighted loss on plain captions, for each stage and their mean over timesteps."""
        return self.losses(state, self.validation)

    def losses(self, state: State, validation: Validation) -> dict[str, float]:
        """The same on other images; as many as before need no other program."""
        return self._validator.losses(state, validation)

    def preview(self, state: State) -> tuple[list[np.ndarray], list[str]]:
        return self._validator.preview(state, self.validation)

    @property
    def makes_images(self) -> bool:
        """Whether it trains the expert of every stage, so that `images` works."""
        return self._validator.whole

    def images(self, state: State, words: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Images [N, H, W, 3] uint8 of tokens and mask [N, L], by the averages; the same at every call.

        They have the first of the model's sizes.
        """
        return self._validator.images(state, words, self.validation)
