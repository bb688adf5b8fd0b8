"""Training of the KL autoencoder: reconstruction (L1 + L2, and LPIPS if its weights are given) plus a small KL term.

L1, L2 and KL are means over the values of the pixels, so that their weights mean the same at any image size. Latent
diffusion (arXiv 2112.10752) sums them instead, which gives the same ratio. Training uses crops: convolutions that are
trained on crops work on whole images.
"""

import math
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import to_uint8
from ernie_vilg_jax.model import Model, to_float
from ernie_vilg_jax.models import lpips
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.training.flops import model_flops
from ernie_vilg_jax.training.optimizer import (
    ema_dtype,
    ema_init,
    ema_update,
    make_optimizer,
    skipped_updates,
    update_ratio,
)
from ernie_vilg_jax.training.task import Batch, Feed, Items, State
from ernie_vilg_jax.training.validation import Validation

PREVIEWS = 8
"""Images that are shown beside their reconstructions."""


class AutoencoderTask:
    """State: {"step", "key", "params", "ema", "opt"}, and with a perceptual loss its weights, as "perceptual".

    Args:
      perceptual: parameters of `models.lpips`; they are not trained and not in checkpoints. None without that loss.
      resident: draws the batches in place of a loader (data.resident).
    """

    def __init__(
        self,
        config: ConfigDict,
        model: Model,
        mesh: Mesh,
        validation: Validation,
        perceptual: Any = None,
        resident: Feed | None = None,
    ) -> None:
        self.config = config
        self.section = config.phases.autoencoder
        self.model = model
        self.mesh = mesh
        self.validation = validation
        self.perceptual = {} if perceptual is None else {"perceptual": perceptual}
        self.optimizer = make_optimizer(config, self.section)
        self.steps: int = self.section.steps
        self.batch_size: int = self.section.batch_size
        self.experts: tuple[str, ...] = ()
        self.notes: dict[str, Any] = {}
        self.fixed: State = {}
        self.resident = resident
        size, factor = self.section.crop_size, model.autoencoder.downsampling
        if size % factor:
            raise UserError(
                f"--config.phases.autoencoder.crop_size={size} must be a multiple of {factor} (autoencoder)"
            )
        self.crop = size if 0 < size < model.image_size else None
        rules.check_batch(self.batch_size, mesh.shape["expert"], mesh, "phases.autoencoder.batch_size")
        state = jax.eval_shape(
            self._state_of, model.abstract_autoencoder()["params"], jax.random.key(0), self.perceptual
        )
        self.shardings = rules.shardings(state, mesh)
        self.abstract: State = rules.placed(state, self.shardings)

    def _new(self, key: jax.Array, perceptual: Params) -> State:
        init, run = jax.random.split(key)
        return self._state_of(self.model.init_autoencoder(init), run, perceptual)

    def _state_of(self, params: Params, run: jax.Array, perceptual: Params) -> State:
        state = {"step": jnp.int32(0), "key": run, "params": params, "ema": ema_init(params, ema_dtype(self.config))}
        return {**state, "opt": self.optimizer.init(params), **perceptual}

    @property
    def parameters(self) -> dict[str, Any]:
        return {"autoencoder": self.abstract["params"]}

    def init(self, key: jax.Array) -> State:
        return self.initial(key, self.perceptual)

    @cached_property
    def initial(self) -> Any:
        """Jitted (key, {"perceptual"} or {}) -> a fresh state."""
        return jax.jit(self._new, out_shardings=self.shardings)

    def items(self, state: State) -> Items:
        return {
            "train": {"step": state["step"], "key": state["key"]},
            "autoencoder": {name: state[name] for name in ("params", "ema", "opt")},
        }

    def state(self, items: Items) -> State:
        return {**items["train"], **items["autoencoder"], **self.perceptual}

    def host_batch(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"image": batch["image"]}

    def _loss(
        self, params: Any, state: State, images: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        crop_key, key = (None, key) if self.crop is None else jax.random.split(key)
        images = to_float(images if crop_key is None else random_crops(crop_key, images, self.crop))
        out: Any = self.model.autoencoder.apply({"params": params}, images, key)
        reconstruction, posterior = out
        difference = reconstruction - images
        l1 = jnp.abs(difference).mean((1, 2, 3))
        l2 = jnp.square(difference).mean((1, 2, 3))
        section = self.section
        kl = posterior.kl() / math.prod(images.shape[1:])
        per_sample = section.l1_weight * l1 + section.l2_weight * l2 + section.kl_weight * kl
        metrics = {"l1": l1.mean(), "mse": l2.mean(), "kl": kl.mean()}
        if self.perceptual:
            looks = lpips.distance(state["perceptual"], reconstruction, images)
            per_sample += section.perceptual_weight * looks
            metrics["lpips"] = looks.mean()
        metrics["per_sample"] = per_sample
        return per_sample.mean(), metrics

    def _train_step(self, state: State, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
        key = jax.random.fold_in(state["key"], state["step"])
        loss = jax.value_and_grad(self._loss, has_aux=True)
        (loss, metrics), grads = loss(state["params"], state, batch["image"], key)
        updates, opt = self.optimizer.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        ema = ema_update(state["ema"], params, state["step"], self.section.ema_decay)
        new = {**state, "step": state["step"] + 1, "params": params, "ema": ema, "opt": opt}
        metrics |= {"loss": loss, "grad_norm": optax.tree.norm(grads), "update_ratio": update_ratio(updates, params)}
        return new, metrics | skipped_updates(opt)

    @cached_property
    def train_step(self) -> Any:
        return jax.jit(self._train_step, donate_argnums=0, out_shardings=(self.shardings, rules.replicated(self.mesh)))

    @cached_property
    def errors_of(self) -> Any:
        """Jitted (params, piece) -> (sum of its mean squared errors, 8 of its images, their reconstructions)."""

        def run(params: Any, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
            images = to_float(rules.spread(batch["image"]))
            posterior: Any = self.model.autoencoder.apply({"params": params}, images, method="encode")
            decoded: Any = self.model.autoencoder.apply({"params": params}, posterior.mean, method="decode")
            errors = jnp.square(rules.spread(decoded) - images).mean((1, 2, 3))
            return errors.sum(where=batch["valid"]), batch["image"][:PREVIEWS], decoded[:PREVIEWS]

        return jax.jit(run, out_shardings=rules.replicated(self.mesh))

    def validate(self, state: State) -> dict[str, float]:
        sums = [self.errors_of(state["ema"], batch)[0] for batch in self.validation.pieces.values()]
        mse = float(np.sum(jax.device_get(sums), dtype=np.float64)) / self.validation.count
        # Peak-to-peak of the images is 2.
        return {"mse": mse, "psnr_db": 10 * math.log10(4.0 / mse)}

    def preview(self, state: State) -> tuple[list[np.ndarray], list[str]]:
        _, images, decoded = self.errors_of(state["ema"], self.validation.pieces[0])
        count = min(self.validation.count, len(images))
        pairs = np.stack([np.asarray(images), to_uint8(decoded)], axis=1)[:count]
        return list(pairs.reshape(-1, *pairs.shape[2:])), ["original", "reconstructed"] * count

    def flops_per_step(self, batch: Batch) -> float:
        return model_flops(self, batch)


def random_crops(key: jax.Array, images: jax.Array, size: int | None) -> jax.Array:
    """[B, size, size, 3]: a random square of each image [B, H, W, 3]."""
    assert size is not None
    count, height, width, channels = images.shape
    corners = jax.random.randint(key, (count, 2), 0, jnp.asarray([height - size + 1, width - size + 1]))
    cut = lambda image, corner: jax.lax.dynamic_slice(image, (*corner, 0), (size, size, channels))  # noqa: E731
    return jax.vmap(cut)(images, corners)
