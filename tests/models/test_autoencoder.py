from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.models import autoencoder
from ernie_vilg_jax.models.autoencoder import Autoencoder, Posterior

KEY = jax.random.key(0, impl="rbg")


@pytest.mark.parametrize(("channels", "patch"), [((8, 8, 8, 8), 1), ((8, 8), 4), ((8,), 8)])
def test_latents_are_an_eighth(channels: tuple[int, ...], patch: int) -> None:
    model = Autoencoder(channels, 1, 4, patch)
    assert model.downsampling == 8
    images = jnp.zeros((2, 32, 16, 3))
    params = jax.eval_shape(model.init, KEY, images, KEY)
    out, posterior = jax.eval_shape(model.apply, params, images, KEY)
    assert out.shape == images.shape
    assert posterior.mean.shape == posterior.log_variance.shape == (2, 4, 2, 4)


def test_images_that_do_not_divide_are_refused() -> None:
    model = Autoencoder((8, 8), 1, 4, 4)
    with pytest.raises(ValueError, match="multiples of 8"):
        jax.eval_shape(model.init, KEY, jnp.zeros((1, 20, 16, 3)), KEY)


def test_patches_round_trip_and_keep_pixels_together() -> None:
    images = jax.random.normal(KEY, (2, 8, 12, 3))
    patches = autoencoder._to_patches(images, 4)
    assert patches.shape == (2, 2, 3, 48)
    np.testing.assert_array_equal(patches[1, 1, 2].reshape(4, 4, 3), images[1, 4:8, 8:12])
    np.testing.assert_array_equal(autoencoder._from_patches(patches, 4), images)


def test_kl_against_the_closed_form() -> None:
    mean, log_variance = jnp.full((1, 1, 1, 1), 0.5), jnp.full((1, 1, 1, 1), np.log(0.25))
    # KL(N(m, s^2) || N(0, 1)) = log(1/s) + (s^2 + m^2)/2 - 1/2
    assert float(Posterior(mean, log_variance).kl()[0]) == pytest.approx(np.log(2) + 0.25 - 0.5)


def test_posterior_samples_have_its_moments() -> None:
    posterior = Posterior(jnp.full((1, 64, 64, 4), 2.0), jnp.full((1, 64, 64, 4), np.log(0.09)))
    latents = posterior.sample(jax.random.normal(jax.random.key(3), posterior.mean.shape))
    assert float(latents.mean()) == pytest.approx(2.0, abs=0.01)
    assert float(latents.std()) == pytest.approx(0.3, abs=0.01)


def test_groups_of_the_norms() -> None:
    """A constant added to one group's channels is removed again, only if these are the groups."""
    x = jax.random.normal(KEY, (1, 2, 2, 8))
    shifted = x + jnp.where(jnp.arange(8) < 4, 5.0, 0.0)
    for groups, same in ((2, True), (1, False)):
        module: Any = autoencoder.SelfAttention(norm_groups=groups)
        params = module.init(KEY, x)
        change = [module.apply(params, a) - a for a in (x, shifted)]
        assert bool(jnp.allclose(*change, atol=1e-3)) == same
    with pytest.raises(ValueError, match="norm_groups=0 must be at least 1"):
        Autoencoder((8,), 1, 4, norm_groups=0)
