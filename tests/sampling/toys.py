"""Small experts, samplers and inputs, to compare the modes of sampling with."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ernie_vilg_jax.diffusion.guidance import guided
from ernie_vilg_jax.diffusion.samplers import DDIM, Sampler, time_grid
from ernie_vilg_jax.diffusion.schedule import Denoised, make_schedule
from ernie_vilg_jax.diffusion.stages import Stages, make_stages
from ernie_vilg_jax.models.text_encoder import Text
from ernie_vilg_jax.models.unet import UNet
from ernie_vilg_jax.sampling.inputs import Inputs
from ernie_vilg_jax.sampling.modes import make_executor
from ernie_vilg_jax.sharding.mesh import make_mesh

SCHEDULE = make_schedule("linear", 1000, 1e-4, 2e-2)

UNIFORM = make_stages("uniform", 4, SCHEDULE)

# Its stages have 1, 0, 4 and 2 steps of the seven: different counts, and one without any.
UNEVEN = Stages((150, 250, 750), 1000)

STEPS = time_grid("trailing", 7, SCHEDULE)

PICTURES, LENGTH, WIDTH = 2, 5, 6


class History(NamedTuple):
    x: jax.Array
    epsilon: jax.Array
    used: jax.Array  # a scalar, unlike the others


@jax.tree_util.register_static
class TwoStep:
    """DDIM on an extrapolated epsilon: like any multi-step solver it keeps the previous prediction."""

    timesteps = STEPS

    def init(self, latents: jax.Array) -> History:
        return History(latents, jnp.zeros_like(latents), jnp.zeros((), jnp.int32))

    def step(self, predict: Callable, carry: History, i: jax.Array, key: jax.Array) -> History:
        epsilon = predict(carry.x, jnp.asarray(STEPS)[i]).epsilon
        used = jnp.where(carry.used > 0, 1.5 * epsilon - 0.5 * carry.epsilon, epsilon)
        ddim, told = DDIM(SCHEDULE, STEPS), lambda x, t: SCHEDULE.denoised(x, used, t)
        return History(ddim.step(told, ddim.init(carry.x), i, key).x, epsilon, carry.used + 1)

    def finish(self, carry: History) -> jax.Array:
        return carry.x


def make_unet(channels: int) -> UNet:
    shape = {"channel_multipliers": (1, 2), "num_res_blocks": 1, "attention_downsamplings": (2,), "head_channels": 8}
    return UNet(base_channels=channels, latent_channels=3, **shape)


SMALL = make_unet(8)

WIDE = make_unet(64)
"""Its weights (13 MB) are many times larger than its activations."""


def unet_experts(module: UNet) -> tuple[Any, ...]:
    text = Text(jnp.zeros((1, LENGTH, WIDTH)), jnp.ones((1, LENGTH), bool), jnp.zeros((1, WIDTH)))
    inputs = jnp.zeros((1, 4, 4, 3)), jnp.zeros(1, jnp.int32)
    shapes: Any = jax.eval_shape(lambda key: module.init(key, *inputs, *text), jax.random.key(0))
    draw = lambda rng, leaf: (0.2 * rng.standard_normal(leaf.shape)).astype(np.float32)  # noqa: E731
    return tuple(jax.tree.map(partial(draw, np.random.default_rng(k)), shapes["params"]) for k in range(4))


def ask(module: UNet, params: Any, x: jax.Array, t: jax.Array, text: Text, shared: Any) -> Denoised:
    predict: Any = lambda x, t, text: module.apply({"params": params}, x, t, *text)  # noqa: E731
    null_text, scale = shared
    return guided(predict, text, null_text, scale, SCHEDULE)(x, t)


def ask_toy(params: Any, x: jax.Array, t: jax.Array, text: Text, shared: Any) -> Denoised:
    null, scale = shared
    push = scale * (text.pooled[:, :3] - null.pooled[:, :3])
    epsilon = jnp.tanh(x @ params["w"] + push[:, None, None]) + t[:, None, None, None] / 5000
    return SCHEDULE.denoised(x, epsilon, t)


TOYS = [{"w": np.random.default_rng(k).standard_normal((3, 3)).astype(np.float32)} for k in range(4)]


def make_inputs(count: int, side: int = 4) -> Inputs:
    rng = np.random.default_rng(1)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)  # noqa: E731

    def text(*lead: int) -> Text:
        seen = jnp.asarray(rng.integers(1, LENGTH, lead))[..., None] > jnp.arange(LENGTH)
        return Text(draw(*lead, LENGTH, WIDTH), seen, draw(*lead, WIDTH))

    keys = jax.random.split(jax.random.key(3), count)
    return Inputs(draw(count, PICTURES, side, side, 3), text(count, PICTURES), (text(1), jnp.float32(3.0)), keys)


def mesh_of(**sizes: int) -> Mesh:
    return make_mesh({"data": 1, **sizes}, jax.devices()[: int(np.prod(list(sizes.values())))])


@cache
def reference(sampler: Sampler, stages: Stages) -> np.ndarray:
    """The resident mode's results for five batches of the toy."""
    return np.asarray(make_executor("resident", ask_toy, stages)(TOYS, sampler, make_inputs(5)))


DETERMINISTIC, STOCHASTIC = TwoStep(), DDIM(SCHEDULE, STEPS, eta=1.0)


def first(inputs: Inputs, count: int) -> Inputs:
    """The first `count` of the batches, to compare with those among five."""
    cut: Any = jax.tree.map(lambda leaf: leaf[:count], inputs._replace(shared=None))
    return cut._replace(shared=inputs.shared)


def bytes_of(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
