"""What forecasts say and refuse; tests/test_aot.py has them compile with the real TPU compiler."""

import pytest

from configs.demo import get_config
from ernie_vilg_jax.chips import Chip
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.forecast.report import Forecast, TooBig, forecast_sampling, forecast_training, largest
from ernie_vilg_jax.sharding.mesh import make_mesh

CHIP = Chip("v0", hbm=100.0, bandwidth=1e9, flops=1e12, clock=1e9)


def forecast(peak: float, batch: int = 1) -> Forecast:
    return Forecast("a", CHIP, 1, batch, {}, 0.0, peak, 1.0, None, 0.0, {}, {}, 1.0)


def test_the_search_finds_the_limit_in_few_tries() -> None:
    said: list[str] = []
    # 20 of 100 whatever the batch, and 7.5 for each 4: ten of them fit.
    assert largest(4, lambda batch: forecast(20 + 7.5 * batch / 4, batch), said.append).batch == 40
    assert [line.split(":")[0] for line in said] == ["batch 4", "batch 8", "batch 40"]


@pytest.mark.parametrize("limit", range(1, 20))
def test_the_search_finds_limits_that_no_line_foretells(limit: int) -> None:
    tried: list[int] = []

    def compiled(batch: int) -> Forecast:
        tried.append(batch)
        return forecast(60 + batch if batch <= limit else 1e9, batch)

    assert largest(1, compiled, lambda line: None).batch == limit
    assert len(set(tried)) == len(tried) <= 9


def test_the_search_ends_where_the_compiler_gives_up() -> None:
    def compiled(batch: int) -> Forecast:
        if batch > 2:
            raise TooBig("does not fit: Used 20G of 16G hbm on each chip")
        return forecast(50.0, batch)

    assert largest(1, compiled, lambda line: None).batch == 2


def test_a_first_batch_that_does_not_fit() -> None:
    with pytest.raises(UserError, match="a batch of 4 does not fit: give a smaller one"):
        largest(4, lambda batch: forecast(1e9), lambda line: None)


def test_the_autoencoder_is_not_compiled() -> None:
    config = get_config("experts,smoke")
    config.phase = "autoencoder"
    with pytest.raises(UserError, match="compiles base and experts"):
        forecast_training(config, make_mesh(config.mesh), CHIP)


def test_sampling_says_which_batch_goes_over_the_chips() -> None:
    config = get_config("experts,smoke")
    with pytest.raises(UserError, match="--batch=3 must be a multiple of 8"):
        forecast_sampling(config, make_mesh(config.mesh), CHIP, 3)
