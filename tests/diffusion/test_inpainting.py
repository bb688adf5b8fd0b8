"""Every sampler reproduces the known part of an image and generates the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.diffusion.inpainting import Known, keeping
from ernie_vilg_jax.diffusion.loop import sample
from ernie_vilg_jax.diffusion.samplers import SAMPLERS, make_sampler
from ernie_vilg_jax.diffusion.schedule import Denoised, make_schedule
from ernie_vilg_jax.diffusion.stages import make_stages

SCHEDULE = make_schedule("linear", 1000, 1e-4, 2e-2)
STAGES = make_stages("uniform", 2, SCHEDULE)
RNG = np.random.default_rng(0)
X0 = jnp.asarray(RNG.standard_normal((1, 4, 4, 2)), jnp.float32)
WHERE = jnp.asarray(np.arange(16).reshape(1, 4, 4, 1) % 3 == 0, jnp.float32)


def towards(value: jax.Array, x: jax.Array, t: jax.Array) -> Denoised:
    """The best prediction if every clean sample is `value`."""
    return SCHEDULE.denoised(x, jnp.full_like(x, value), t, "x0")


def paint(name: str, known: Known) -> np.ndarray:
    """Three images by two experts whose images are all 2 or all 3."""

    def apply(params: jax.Array, x: jax.Array, t: jax.Array) -> Denoised:
        return keeping(lambda x, t: towards(params, x, t), SCHEDULE, known)(x, t)

    noise = jnp.asarray(RNG.standard_normal((3, 4, 4, 2)), jnp.float32)
    sampler, experts = make_sampler(name, SCHEDULE, 6), (jnp.float32(2), jnp.float32(3))
    run = jax.jit(lambda noise: sample(experts, apply, STAGES, sampler, noise, jax.random.key(1)))
    return np.asarray(run(noise))


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_keeps_the_known_part(name: str) -> None:
    made = paint(name, Known(X0, WHERE))
    kept = np.broadcast_to(WHERE > 0, made.shape)
    np.testing.assert_allclose(made[kept], np.broadcast_to(X0, made.shape)[kept], atol=2e-3)
    # Steps of the first expert pull towards 3, those of the last towards 2; the last one decides.
    np.testing.assert_allclose(made[~kept], 2.0, atol=0.1)


def test_each_image_may_have_its_own_known_part() -> None:
    x0 = jnp.concatenate([X0, X0 + 1, X0 + 2])
    where = jnp.concatenate([WHERE, 0 * WHERE, 0 * WHERE + 1])
    made = paint("ddim", Known(x0, where))
    np.testing.assert_allclose(made[1], 2.0, atol=0.1)
    np.testing.assert_allclose(made[2], X0[0] + 2, atol=2e-3)
