import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.training.optimizer import ema_update, learning_rate


def test_rate_warms_up_stays_and_falls() -> None:
    section = ConfigDict({"steps": 100, "warmup_steps": 10, "decay_steps": 20, "learning_rate": 2.0})
    rate = learning_rate(section)
    steps = [0, 4, 9, 50, 80, 90, 99]
    np.testing.assert_allclose(
        [np.asarray(rate(jnp.int32(s))) for s in steps], [0.2, 1.0, 2.0, 2.0, 2.0, 1.0, 0.1], rtol=1e-6
    )


def test_rate_is_fixed_by_default() -> None:
    section = ConfigDict({"steps": 100, "warmup_steps": 0, "decay_steps": 0, "learning_rate": 2.0})
    assert {np.asarray(learning_rate(section)(jnp.int32(s))).item() for s in (0, 1, 50, 99)} == {2.0}


def test_average_forgets_its_start_quickly_then_slowly() -> None:
    ema = {"w": jnp.zeros(())}
    first = ema_update(ema, {"w": jnp.ones(())}, jnp.int32(0), 0.9999)
    assert float(first["w"]) == pytest.approx(0.9)
    late = ema_update(ema, {"w": jnp.ones(())}, jnp.int32(10**7), 0.9999)
    assert float(late["w"]) == pytest.approx(1e-4, rel=1e-3)
