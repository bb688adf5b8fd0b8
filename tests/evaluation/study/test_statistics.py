"""Against statsmodels, SciPy and published tables; and intervals that cover as often as they say."""

import numpy as np
import pytest
from scipy import stats

from ernie_vilg_jax.evaluation.study.statistics import (
    bradley_terry,
    clustered_variance,
    krippendorff_alpha,
    share,
    wilson,
)

NORMAL = float(stats.norm.ppf(0.975))


def simulated(rng: np.random.Generator, prompts: int, raters: int, preference: float, spread: float, rater_spread=0.0):
    """Votes of all raters on all prompts: a prompt has a preference of its own, and so may a rater; a fifth are ties.

    The mean over prompts and raters is `preference` exactly, because both deviations have a mean of 0.
    """
    of_prompt = rng.uniform(-spread, spread, (1, prompts))
    of_rater = rng.uniform(-rater_spread, rater_spread, (raters, 1))
    chance = (preference - 0.1) / 0.8 + of_prompt + of_rater
    assert chance.min() >= 0 and chance.max() <= 1
    votes = np.where(rng.random((raters, prompts)) < 0.2, 0.5, rng.random((raters, prompts)) < chance)
    people, items = np.indices(votes.shape)
    return votes.ravel(), items.ravel(), people.ravel()


@pytest.mark.parametrize("kinds", [1, 2])
def test_the_variance_is_that_of_statsmodels(kinds: int):
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(kinds)
    votes, prompts, raters = simulated(rng, 40, 9, 0.55, 0.3, 0.1)
    kept = rng.random(len(votes)) < 0.7  # raters who judged only some
    votes, prompts, raters = votes[kept], prompts[kept], raters[kept]
    groups = (prompts, raters)[:kinds]
    model = sm.OLS(votes, np.ones(len(votes)))
    fit = model.fit(cov_type="cluster", cov_kwds={"groups": np.stack(groups, 1) if kinds == 2 else prompts})
    expected = fit.cov_params()[0, 0]
    assert clustered_variance(votes, *groups) == pytest.approx(expected, rel=1e-9)


def test_wilson_is_that_of_statsmodels():
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for count, total in ((0, 10), (3, 10), (170, 300), (300, 300)):
        low, high = proportion.proportion_confint(count, total, method="wilson")
        assert wilson(count / total, total, NORMAL)[1:] == pytest.approx((low, high), abs=1e-12)
        reference = stats.binomtest(count, total).proportion_ci(method="wilson")
        assert wilson(count / total, total, NORMAL)[1:] == pytest.approx(tuple(reference), abs=1e-12)


def test_one_vote_a_prompt_is_a_binomial():
    """Without dependent votes, the interval is Wilson's but for t and n - 1."""
    votes = np.repeat([1.0, 0.0], [170, 130])
    found, reference = share(votes, np.arange(300)), stats.binomtest(170, 300).proportion_ci(method="wilson")
    assert found.value == pytest.approx(170 / 300) and found[1:] == pytest.approx(tuple(reference), abs=1e-3)


def test_repeated_votes_of_a_prompt_are_worth_one():
    votes, prompts = np.repeat([1.0, 0.0], [60, 40]), np.arange(100)
    once, five = share(votes, prompts), share(np.repeat(votes, 5), np.repeat(prompts, 5))
    assert five == pytest.approx(once)


@pytest.mark.parametrize(
    ("votes", "groups", "expected"),
    [
        (np.ones(12), np.arange(12), (1.0, 0.71, 1.0)),
        (np.zeros(12), np.arange(12), (0.0, 0.0, 0.29)),
        (np.full(12, 0.5), np.arange(12), (0.5, 0.23, 0.77)),
        (np.ones(12), np.zeros(12), (1.0, 0.0, 1.0)),
        (np.array([1.0]), np.array([0]), (1.0, 0.0, 1.0)),
    ],
    ids=["all won", "all lost", "all same", "one prompt", "one vote"],
)
def test_votes_without_variance_are_not_certain(votes, groups, expected):
    assert share(votes, groups) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("raters", "rater_spread"), [(5, 0.0), (12, 0.15)], ids=["the paper's five, other prompts", "twelve, others too"]
)
def test_a_true_preference_of_60_percent_is_covered(raters: int, rater_spread: float):
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(1000):
        votes, prompts, people = simulated(rng, 100, raters, 0.6, 0.2, rater_spread)
        found = share(votes, prompts, people) if rater_spread else share(votes, prompts)
        covered += found.low <= 0.6 <= found.high
    assert 930 <= covered <= 970


def test_intervals_that_forget_prompts_would_not_cover():
    """The simulation is one where votes on a prompt are alike; counted as independent they cover too rarely."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(300):
        votes, _, _ = simulated(rng, 100, 12, 0.6, 0.3)
        found = share(votes, np.arange(len(votes)))
        covered += found.low <= 0.6 <= found.high
    assert covered < 0.9 * 300


def test_bradley_terry_is_the_logistic_regression_of_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(3)
    first, second = np.array([(0, 1), (0, 2), (1, 2), (1, 3)] * 100).T
    true = np.array([0.0, 0.6, -0.4, 1.1])
    votes = (rng.random(400) < 1 / (1 + np.exp(true[second] - true[first]))).astype(float)
    votes[::7] = 0.5
    prompts = np.arange(400) // 8
    signs = np.zeros((400, 4))
    signs[np.arange(400), first], signs[np.arange(400), second] = 1, -1
    fit = sm.GLM(votes, signs[:, 1:], family=sm.families.Binomial()).fit(
        tol=1e-12, cov_type="cluster", cov_kwds={"groups": prompts}
    )
    found = bradley_terry(votes, first, second, prompts)
    assert found.values[1:] == pytest.approx(fit.params, abs=1e-6)
    assert found.errors[1:] == pytest.approx(fit.bse * np.sqrt((400 - 3) / 399), rel=1e-5)


def test_bradley_terry_of_two_models_is_the_odds_of_the_share():
    votes = np.repeat([1.0, 0.5, 0.0], [50, 20, 30])
    zero, one = np.zeros(100, int), np.ones(100, int)
    assert bradley_terry(votes, zero, one, np.arange(100)).values == pytest.approx([0, -np.log(0.6 / 0.4)], abs=1e-6)


def test_bradley_terry_of_a_model_that_always_wins_has_no_error():
    found = bradley_terry(np.ones(10), np.ones(10, int), np.zeros(10, int), np.arange(10))
    assert found.values[1] == pytest.approx(10) and np.isnan(found.errors[1])


# Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, sections C and D: four observers, twelve units.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, np.nan, np.nan, np.nan],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, np.nan, 3],
        [np.nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, np.nan],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, np.nan],
    ]
)


def test_alpha_is_as_published():
    assert krippendorff_alpha(PUBLISHED) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(PUBLISHED, ordered=True) == pytest.approx(0.815, abs=1e-3)


def test_alpha_of_two_raters_without_gaps_is_scotts_pi_corrected():
    """Nominal, n values in all: 1 - alpha = (1 - pi) (n - 1) / n."""
    a, b = np.random.default_rng(0).integers(0, 3, (2, 50))
    shares = np.array([np.mean(np.concatenate([a, b]) == value) for value in range(3)])
    pi = (np.mean(a == b) - (shares**2).sum()) / (1 - (shares**2).sum())
    found = krippendorff_alpha(np.stack([a, b]).astype(float))
    assert 1 - found == pytest.approx((1 - pi) * 99 / 100)


def test_alpha_without_anything_to_compare_is_undefined():
    assert np.isnan(krippendorff_alpha(np.ones((3, 5)))) and np.isnan(krippendorff_alpha(np.zeros((0, 0))))
    assert np.isnan(krippendorff_alpha(np.array([[1.0, np.nan], [np.nan, 0.0]])))
    assert krippendorff_alpha(np.array([[1.0, 0.0], [1.0, 0.0]])) == 1
