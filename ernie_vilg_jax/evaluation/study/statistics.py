"""Preferences with intervals, strengths of models, agreement of raters. NumPy and SciPy; no database.

Votes are [N] numbers: 1 for the first model, 0.5 for "same", 0 for the second.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from ernie_vilg_jax.evaluation.statistics import Interval

CONFIDENCE = 0.95
FARTHEST = 10.0
"""Log-odds: where one model wins always, the best strength is infinite, and the fit stops here."""


def clustered_variance(votes: np.ndarray, *groups: np.ndarray) -> float:
    """The variance of the mean of votes [N] that depend on each other within groups; one or two kinds of them.

    Votes on one prompt are alike, and so are those of one rater. For one kind it is the sandwich estimator with the
    usual small-sample factor; for two, the sum of both less that of their intersections (Cameron, Gelbach and Miller
    2011, https://doi.org/10.1198/jbes.2010.07136), and at least the larger of the two.

    Args:
      groups: [N] labels each, of two or more groups.
    """
    if len(groups) == 2:
        both = np.unique(
            np.stack([np.unique(one, return_inverse=True)[1] for one in groups]), axis=1, return_inverse=True
        )
        single = [clustered_variance(votes, one) for one in groups]
        return max(*single, sum(single) - clustered_variance(votes, np.ravel(both[1])))
    (labels,) = groups
    _, index = np.unique(labels, return_inverse=True)
    sums = np.bincount(index, weights=votes - np.mean(votes))
    return float(np.sum(sums**2) / len(votes) ** 2 * len(sums) / (len(sums) - 1))


def share(votes: np.ndarray, *groups: np.ndarray) -> Interval:
    """The mean of votes [N] and its 95% interval over groups of dependent votes, such as prompts.

    Wilson's interval for as many independent votes as would have the same variance (Korn and Graubard 1998), with
    Student's t for the number of groups: within 0 and 1, and honest about ten votes that all agree. With one group
    nothing can be said: 0 to 1.

    Args:
      groups: one or two kinds of labels [N]; with prompts and raters, the interval is of other prompts and raters.
    """
    votes = np.asarray(votes, np.float64)
    value = float(np.mean(votes))
    count = min(len(np.unique(one)) for one in groups)
    if count < 2:
        return Interval(value, 0.0, 1.0)
    variance = clustered_variance(votes, *groups)
    spread = value * (1 - value)
    # Votes that are all alike have no variance; then each group counts as one vote.
    votes_worth = spread / variance if variance > 1e-12 and spread > 1e-12 else float(count)
    return wilson(value, votes_worth, float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)))


def wilson(value: float, count: float, quantile: float) -> Interval:
    """Wilson's interval of a share of `count` votes."""
    scale = 1 + quantile**2 / count
    centre = (value + quantile**2 / (2 * count)) / scale
    half = quantile * np.sqrt(value * (1 - value) / count + quantile**2 / (4 * count**2)) / scale
    return Interval(value, float(max(0.0, centre - half)), float(min(1.0, centre + half)))


class Strengths(NamedTuple):
    """Bradley-Terry strengths of M models in log-odds; the first is 0. Model i beats j with 1 / (1 + e^(s_j - s_i)).

    Attributes:
      values: [M].
      errors: [M] standard errors over the groups; NaN where a strength has no finite value.
    """

    values: np.ndarray
    errors: np.ndarray


def bradley_terry(votes: np.ndarray, first: np.ndarray, second: np.ndarray, groups: np.ndarray) -> Strengths:
    """The strengths that make the votes most likely, "same" as half a win of each.

    Args:
      votes: [N]. first, second: [N] numbers of the models compared, from 0; each but 0 in some comparison.
      groups: [N] labels of dependent votes, for the errors.
    """
    count = int(max(first.max(), second.max())) + 1
    rows = np.arange(len(votes))
    signs = np.zeros((len(votes), count))
    signs[rows, first], signs[rows, second] = 1, -1
    signs = signs[:, 1:]

    def loss(strengths: np.ndarray) -> tuple[float, np.ndarray]:
        odds = signs @ strengths
        return float(np.sum(np.logaddexp(0, odds) - votes * odds)), signs.T @ (_chance(odds) - votes)

    bounds = [(-FARTHEST, FARTHEST)] * (count - 1)
    options = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-10}
    best = optimize.minimize(loss, np.zeros(count - 1), jac=True, bounds=bounds, method="L-BFGS-B", options=options).x
    chance = _chance(signs @ best)
    _, index = np.unique(groups, return_inverse=True)
    scores = np.zeros((index.max() + 1, count - 1))
    np.add.at(scores, index, signs * (votes - chance)[:, None])
    errors = np.full(count - 1, np.nan)
    finite = np.abs(best) < FARTHEST - 1e-6
    if finite.all() and len(scores) > 1:
        bread = np.linalg.inv(signs.T @ (signs * (chance * (1 - chance))[:, None]))
        errors = np.sqrt(np.diag(bread @ scores.T @ scores @ bread) * len(scores) / (len(scores) - 1))
    return Strengths(np.concatenate([[0.0], best]), np.concatenate([[0.0], errors]))


def _chance(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


def krippendorff_alpha(ratings: np.ndarray, *, ordered: bool = False) -> float:
    """Krippendorff's alpha: 1 for raters who always agree, 0 for agreement by chance; NaN if it is not defined.

    By the coincidence matrix of Krippendorff (2011), Computing Krippendorff's Alpha-Reliability.

    Args:
      ratings: [raters, units], NaN where a rater did not judge a unit.
      ordered: whether values are ordinal, so that neighbours disagree less; else any two values differ alike.
    """
    values = np.unique(ratings[~np.isnan(ratings)])
    if len(values) < 2:
        return float("nan")
    counts = np.stack([(ratings == value).sum(0) for value in values], 1).astype(float)  # [units, values]
    counts = counts[counts.sum(1) > 1]
    if not len(counts):
        return float("nan")
    judged = counts.sum(1)[:, None, None]
    pairs = counts[:, :, None] * counts[:, None, :] - np.eye(len(values)) * counts[:, :, None]
    seen = (pairs / (judged - 1)).sum(0)
    totals = seen.sum(1)
    expected = (np.outer(totals, totals) - np.diag(totals)) / (totals.sum() - 1)
    distance = 1 - np.eye(len(values))
    if ordered:  # ranks that lie between, the two ends by half
        middle = np.cumsum(totals) - totals / 2
        distance = (middle[:, None] - middle) ** 2
    disagreed = float((expected * distance).sum())
    return 1 - float((seen * distance).sum()) / disagreed if disagreed else float("nan")
