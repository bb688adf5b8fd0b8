import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.diffusion.schedule import make_schedule
from ernie_vilg_jax.diffusion.stages import Stages, make_stages

LINEAR = make_schedule("linear", 1000, 1e-4, 2e-2)
SCALED = make_schedule("scaled_linear", 1000, 0.00085, 0.012)
LOG_SNR_LINEAR = (4, 17, 52, 139, 303, 493, 653, 785, 899)
LOG_SNR_SCALED = (3, 11, 37, 103, 234, 414, 598, 757, 889)


def test_log_snr_boundaries_are_the_published_ones() -> None:
    assert make_stages("log_snr", 10, LINEAR).boundaries == LOG_SNR_LINEAR
    assert make_stages("log_snr", 10, SCALED).boundaries == LOG_SNR_SCALED


@pytest.mark.parametrize("schedule", [LINEAR, SCALED])
def test_log_snr_stages_have_equal_spans_within_one_timestep(schedule) -> None:
    stages = make_stages("log_snr", 10, schedule)
    cuts = np.linspace(schedule.log_snr[0], schedule.log_snr[-1], 11)[1:-1]
    boundaries = np.array(stages.boundaries)
    assert np.all(schedule.log_snr[boundaries] <= cuts)
    assert np.all(schedule.log_snr[boundaries - 1] > cuts)


@pytest.mark.parametrize(
    "stages",
    [
        make_stages("uniform", 10, LINEAR),
        make_stages("uniform", 7, LINEAR),
        make_stages("log_snr", 10, LINEAR),
        make_stages("log_snr", 4, SCALED),
        make_stages((1, 400, 999), 4, LINEAR),
        make_stages((), 1, LINEAR),
    ],
    ids=lambda stages: f"{stages.n}:{stages.boundaries[:3]}",
)
def test_stage_of_at_every_boundary(stages: Stages) -> None:
    traced = jax.jit(stages.stage_of)
    edges = (0, *stages.boundaries, stages.num_timesteps)
    for stage in range(stages.n):
        first, last = edges[stage], edges[stage + 1] - 1
        assert stages.range_of(stage) == (first, last + 1)
        for t in (first, last):
            assert stages.stage_of(t) == stage
            assert stages.stage_of(np.int32(t)) == stage
            assert int(traced(jnp.int32(t))) == stage
    assert stages.stage_of(0) == 0
    assert stages.stage_of(stages.num_timesteps - 1) == stages.n - 1
    every = np.arange(stages.num_timesteps)
    np.testing.assert_array_equal(stages.stage_of(every), np.repeat(np.arange(stages.n), stages.ends - stages.starts))
    np.testing.assert_array_equal(traced(jnp.asarray(every)), stages.stage_of(every))


def test_uniform_is_the_papers_formula_for_every_t_and_many_n() -> None:
    for num_timesteps in (1000, 997, 12):
        schedule = make_schedule("linear", num_timesteps, 1e-4, 2e-2)
        every = np.arange(num_timesteps)
        for n in [*range(1, min(41, num_timesteps + 1)), num_timesteps]:
            stages = make_stages("uniform", n, schedule)
            np.testing.assert_array_equal(stages.stage_of(every), every * n // num_timesteps)


def test_equal_spans_of_log_snr_where_the_last_timestep_has_no_signal() -> None:
    zero = make_schedule("linear", 1000, 1e-4, 2e-2, zero_terminal_snr=True)
    stages = make_stages("log_snr", 5, zero)
    cuts = zero.log_snr[np.array(stages.boundaries)]
    np.testing.assert_allclose(
        np.diff([zero.log_snr[0], *cuts, zero.log_snr[-2]]), (zero.log_snr[-2] - zero.log_snr[0]) / 5, atol=0.5
    )


def test_stage_of_keeps_kind_and_shape() -> None:
    stages = make_stages("uniform", 4, LINEAR)
    assert type(stages.stage_of(999)) is int
    as_numpy = stages.stage_of(np.array([[0, 250], [500, 999]]))
    assert isinstance(as_numpy, np.ndarray)
    np.testing.assert_array_equal(as_numpy, [[0, 1], [2, 3]])
    as_jax = stages.stage_of(jnp.array([[0, 250], [500, 999]]))
    assert isinstance(as_jax, jax.Array)
    assert as_jax.dtype == jnp.int32
    np.testing.assert_array_equal(as_jax, as_numpy)


def test_draw_stays_in_its_stage_and_covers_it_evenly() -> None:
    stages = make_stages("log_snr", 10, LINEAR)
    draw = jax.jit(stages.draw, static_argnums=2)
    for stage in range(stages.n):
        t = draw(jax.random.key(stage), jnp.int32(stage), (20_000,))
        assert t.dtype == jnp.int32
        np.testing.assert_array_equal(t, stages.draw(jax.random.key(stage), stage, (20_000,)))
        lo, hi = stages.range_of(stage)
        counts = np.bincount(np.asarray(t) - lo, minlength=hi - lo)
        assert len(counts) == hi - lo
        assert counts.min() > 0
        # Chi-squared with k degrees of freedom has mean k and variance 2k; 6 standard deviations is beyond chance.
        expected, freedom = 20_000 / (hi - lo), hi - lo - 1
        assert np.sum((counts - expected) ** 2 / expected) < freedom + 6 * np.sqrt(2 * freedom) + 6


def test_draw_takes_a_stage_per_sample() -> None:
    stages = make_stages("uniform", 5, LINEAR)
    wanted = jnp.tile(jnp.arange(5), 100)
    t = stages.draw(jax.random.key(0), wanted, (500,))
    np.testing.assert_array_equal(stages.stage_of(t), wanted)


def test_is_hashable_and_equal_by_value() -> None:
    assert make_stages("uniform", 4, LINEAR) == make_stages([250, 500, 750], 4, SCALED)
    assert len({make_stages("uniform", 4, LINEAR), Stages((250, 500, 750), 1000)}) == 1


@pytest.mark.parametrize(
    ("spec", "n", "sentence"),
    [
        ((500, 250), 3, "must ascend"),
        ((250, 250), 3, "stage 1 of 3 would hold no timesteps"),
        ((0, 250), 3, "stage 0 of 3 would hold no timesteps"),
        ((250, 1000), 3, "stage 2 of 3 would hold no timesteps"),
        ((250, 1200), 3, "1200 lies outside"),
        ((-5, 250), 3, "-5 lies outside"),
        ((250, 500), 4, "4 stages need 3 boundaries, but 2"),
        ("uniform", 0, "at least 1"),
        ("uniform", 1001, "do not fit"),
        ("log_snr", 500, "would hold no timesteps"),
        ("loguniform", 4, "'uniform', 'log_snr'"),
    ],
)
def test_invalid_cuts_are_explained(spec, n: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_stages(spec, n, LINEAR)


def test_timesteps_and_stages_out_of_range_are_refused() -> None:
    stages = make_stages("uniform", 4, LINEAR)
    for t in (-1, 1000, np.array([3, 1000])):
        with pytest.raises(ValueError, match="lies outside"):
            stages.stage_of(t)
    with pytest.raises(ValueError, match="stage 4 lies outside"):
        stages.range_of(4)
