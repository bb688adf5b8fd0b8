"""What training shows of itself: the loss of each stage on fixed pictures, and previews of fixed prompts."""

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax.diffusion.loss import loss_per_sample
from ernie_vilg_jax.diffusion.samplers import make_sampler
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.images import to_uint8
from ernie_vilg_jax.model import Model, ModelParams
from ernie_vilg_jax.sampling.generator import generate
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.training.task import Batch, State

PREVIEW_STEPS = 25


class Validator:
    """Looks at the averages (EMA) of a diffusion task's state.

    Args:
      stages: those of the run; the phase `base` has one.
      trained: stage of each expert in the state's bank, in order.
    """

    def __init__(self, config: ConfigDict, model: Model, mesh: Mesh, stages: Stages, trained: tuple[int, ...]) -> None:
        self.config = config
        self.model = model
        self.mesh = mesh
        self.stages = stages
        self.trained = trained
        if stages.n == 1:
            # The U-Net of `base` is tested on every stage of the config.
            self._validated, self._slots = tuple(range(model.stages.n)), (0,) * model.stages.n
        else:
            self._validated, self._slots = trained, tuple(range(len(trained)))

    def losses(self, state: State, batch: Batch) -> dict[str, float]:
        """Unweighted loss on plain captions, for each stage and their mean over timesteps."""
        losses = np.asarray(self._losses(state, batch))
        names = [f"loss_stage_{stage:02d}" for stage in self._validated]
        spans = (self.model.stages.ends - self.model.stages.starts)[list(self._validated)]
        return {**dict(zip(names, losses.tolist(), strict=True)), "loss": float(np.average(losses, weights=spans))}

    @cached_property
    def _losses(self) -> Any:
        def run(state: State, batch: Batch) -> jax.Array:
            """Loss of each stage of the config [stages]: every picture at its own fixed (t, noise)."""
            latents = self.model.encode_image(state["autoencoder"], batch["image"])
            count = latents.shape[0]
            text = self.model.encode_text(state["text_encoder"]["ema"], batch["tokens"], batch["token_mask"])
            key = jax.random.key(20221015)

            def one(xs: tuple[jax.Array, jax.Array]) -> jax.Array:
                stage, slot = xs
                expert = jax.tree.map(lambda leaf: leaf[slot], state["experts"]["ema"])
                low, high = self.model.stages.range_of(stage)
                # Timesteps evenly over the stage; the noise is the same at every call and for every model.
                t = (low + (jnp.arange(count) + 0.5) / count * (high - low)).astype(jnp.int32)
                noise = jax.random.normal(jax.random.fold_in(key, stage), latents.shape)
                prediction = self.model.prediction(expert, self.model.schedule.add_noise(latents, noise, t), t, text)
                return loss_per_sample(prediction, self.model.target(latents, noise, t)).mean()

            return jax.lax.map(one, (jnp.asarray(self._validated), jnp.asarray(self._slots)))

        return jax.jit(run, out_shardings=rules.replicated(self.mesh))

    def preview(self, state: State, batch: Batch) -> tuple[np.ndarray, list[str]]:
        """Pictures [n, H, W, 3] uint8 of the preview prompts, and these; none while experts are missing."""
        labels = list(self.config.train.preview_prompts)
        if len(self.trained) < self.stages.n or not labels:
            return np.zeros((0, 1, 1, 3), np.uint8), []
        return to_uint8(self._sample(state, batch)), labels

    @cached_property
    def _sample(self) -> Any:
        schedule = self.model.schedule
        sampler = make_sampler("ddim", schedule, PREVIEW_STEPS, grid="trailing")

        def run(state: State, batch: Batch) -> jax.Array:
            bank = state["experts"]["ema"]
            experts = [jax.tree.map(lambda leaf, k=k: leaf[k], bank) for k in range(len(self.trained))]
            params = ModelParams(state["autoencoder"], state["text_encoder"]["ema"], experts)
            words = batch["preview_tokens"], batch["preview_mask"]
            null = batch["null_tokens"], batch["null_mask"]
            key = jax.random.key(1)
            noise = jax.random.normal(key, (words[0].shape[0], *self.model.latent_shape))
            scale = self.config.sample.guidance_scale
            return generate(self.model, params, self.stages, sampler, *words, null, noise, scale, key)

        return jax.jit(run, out_shardings=rules.replicated(self.mesh))
