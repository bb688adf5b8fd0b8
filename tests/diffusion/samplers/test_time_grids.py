"""The timesteps that samplers visit, and `make_sampler`, which chooses them."""

from typing import Any

import numpy as np
import pytest

from ernie_vilg_jax.diffusion.samplers import DDIM, GRIDS, SAMPLERS, make_sampler, time_grid
from ernie_vilg_jax.diffusion.schedule import make_schedule
from tests.diffusion.closed_forms import LINEAR, SCALED


def test_grids_hold_the_documented_timesteps() -> None:
    np.testing.assert_array_equal(time_grid("trailing", 50, LINEAR), np.arange(999, 0, -20))
    np.testing.assert_array_equal(time_grid("leading", 50, LINEAR), np.arange(980, -1, -20))
    np.testing.assert_array_equal(time_grid("uniform", 3, LINEAR), [999, 500, 0])
    quadratic = time_grid("quadratic", 50, LINEAR)
    np.testing.assert_array_equal(quadratic[:3], [999, 959, 921])
    np.testing.assert_array_equal(quadratic[-3:], [3, 1, 0])
    power = time_grid("power", 50, LINEAR)
    np.testing.assert_array_equal(power[:3], [999, 969, 940])
    np.testing.assert_array_equal(power[-3:], [14, 7, 2])


@pytest.mark.parametrize(("name", "exponent"), [("trailing", 1.0), ("power", 1.5), ("quadratic", 2.0)])
def test_steps_are_even_in_a_root_of_t(name: str, exponent: float) -> None:
    places = time_grid(name, 20, LINEAR) + 1.0
    np.testing.assert_allclose(places, 1000 * (1 - np.arange(20) / 20) ** exponent, atol=0.51)


@pytest.mark.parametrize("schedule", [LINEAR, SCALED])
def test_karras_is_even_in_the_seventh_root_of_the_noise_level(schedule: Any) -> None:
    grid = time_grid("karras", 12, schedule)
    assert (grid[0], grid[-1]) == (999, 0)
    levels = schedule.sigmas / schedule.alphas
    wanted = np.linspace(levels[999] ** (1 / 7), levels[0] ** (1 / 7), 12) ** 7
    # No other timestep is nearer.
    for t, level in zip(grid, wanted, strict=True):
        away = np.abs(np.log(levels[max(t - 1, 0) : t + 2] / level))
        assert np.abs(np.log(levels[t] / level)) <= away.min() * 1.1


@pytest.mark.parametrize("name", sorted(GRIDS))
@pytest.mark.parametrize(("num_timesteps", "zero"), [(1, False), (2, False), (2, True), (13, False), (100, True)])
def test_grids_never_repeat_a_timestep(name: str, num_timesteps: int, zero: bool) -> None:
    schedule = make_schedule("linear", num_timesteps, 1e-4, 2e-2, zero)
    for steps in range(1, num_timesteps + 1):
        check(time_grid(name, steps, schedule), steps, num_timesteps)
    np.testing.assert_array_equal(time_grid(name, num_timesteps, schedule), np.arange(num_timesteps)[::-1])


@pytest.mark.parametrize("name", sorted(GRIDS))
@pytest.mark.parametrize("schedule", [LINEAR, SCALED])
def test_grids_of_a_thousand_never_repeat_either(name: str, schedule: Any) -> None:
    for steps in [*range(1, 60), 100, 250, 333, 500, 750, 998, 999, 1000]:
        check(time_grid(name, steps, schedule), steps, 1000)


def check(grid: np.ndarray, steps: int, num_timesteps: int) -> None:
    assert grid.dtype == np.int32
    assert grid.shape == (steps,)
    assert np.all(np.diff(grid) < 0)
    assert grid[-1] >= 0
    assert grid[0] < num_timesteps


@pytest.mark.parametrize("name", sorted(set(GRIDS) - {"leading"}))
def test_all_but_leading_begin_at_the_last_timestep(name: str) -> None:
    assert all(time_grid(name, steps, LINEAR)[0] == 999 for steps in (1, 2, 15, 50))


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_samplers_are_made_by_name(name: str) -> None:
    sampler = make_sampler(name, LINEAR, 20)
    assert isinstance(sampler, SAMPLERS[name])
    np.testing.assert_array_equal(sampler.timesteps, time_grid(SAMPLERS[name].grid, 20, LINEAR))
    np.testing.assert_array_equal(
        make_sampler(name, LINEAR, 9, grid="karras").timesteps, time_grid("karras", 9, LINEAR)
    )


def test_options_reach_the_sampler() -> None:
    sampler = make_sampler("ddim", LINEAR, 4, eta=0.5)
    assert isinstance(sampler, DDIM)
    assert sampler.eta == 0.5
    with pytest.raises(ValueError, match="sampler 'ddim' has no option 'order'; it has eta, clip_x0"):
        make_sampler("ddim", LINEAR, 4, order=3)
    with pytest.raises(ValueError, match="sampler 'euler' has no option 'eta'; it has none"):
        make_sampler("euler", LINEAR, 4, eta=0.5)


@pytest.mark.parametrize(("start", "left"), [(1.0, 10), (0.99, 10), (0.6, 6), (0.3, 3), (0.01, 1)])
def test_start_keeps_the_last_steps(start: float, left: int) -> None:
    whole = make_sampler("unipc", LINEAR, 10).timesteps
    np.testing.assert_array_equal(make_sampler("unipc", LINEAR, 10, start=start).timesteps, whole[10 - left :])


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        (
            ("ddimm", LINEAR, 10),
            {},
            f"the sampler must be one of {', '.join(SAMPLERS)}, but is 'ddimm'",
        ),
        (("ddim", LINEAR, 10), {"grid": "cubic"}, "the time grid must be one of trailing, .*karras, but is 'cubic'"),
        (("ddim", LINEAR, 0), {}, "steps must lie between 1 and the 1000 training timesteps, but is 0"),
        (("ddim", LINEAR, 1001), {}, "but is 1001"),
        (("ddim", LINEAR, 10), {"start": 0.0}, "start must be above 0 and at most 1, which is all steps, but is 0.0"),
        (("ddim", LINEAR, 10), {"start": 1.1}, "start must be above 0"),
        (("ddim", LINEAR, 10), {"start": float("nan")}, "start must be above 0"),
        (("ddim", LINEAR, 10), {"eta": 1.5}, "eta must lie between 0 and 1"),
        (("ddim", LINEAR, 10), {"clip_x0": 0.0}, "clip_x0 must be positive"),
        (("ddpm", LINEAR, 10), {"clip_x0": -1.0}, "clip_x0 must be positive"),
        (("ddpm", LINEAR, 10), {"variance": "medium"}, "variance must be 'small' or 'large', but is 'medium'"),
        (("unipc", LINEAR, 10), {"order": 4}, "order must be 1, 2 or 3, but is 4"),
    ],
)
def test_bad_requests_are_refused(arguments: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_sampler(*arguments, **options)


@pytest.mark.parametrize(
    ("timesteps", "sentence"),
    [([0, 999], "strictly descending"), ([5, 5], "strictly descending"), ([], "strictly"), ([1000, 0], "must lie in")],
)
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_bad_timesteps_are_refused(name: str, timesteps: list[int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        SAMPLERS[name](LINEAR, np.array(timesteps))
