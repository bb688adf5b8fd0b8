"""Distances between sets of features, and how sure a number is. NumPy in float64; no images, files or models.

Features are [N, D], a row per image. The distances compare the features of generated images with those of real ones.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.linalg

ROWS = 2048
"""Rows of a kernel matrix that are in memory at once."""


class Interval(NamedTuple):
    """A number with its confidence interval."""

    value: float
    low: float
    high: float


class Moments(NamedTuple):
    """The Gaussian that features are summarised by.

    Attributes:
      mean: [D].
      covariance: [D, D], of the sample (divided by N - 1).
      count: N.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int


def moments(features: np.ndarray) -> Moments:
    """The moments of features [N, D], N >= 2."""
    features = np.asarray(features, np.float64)
    return Moments(features.mean(0), np.cov(features, rowvar=False).reshape(2 * features.shape[1:]), len(features))


def frechet_distance(features: np.ndarray, reference: Moments, root: np.ndarray | None = None) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)): with Inception features the FID (https://arxiv.org/abs/1706.08500).

    It has a bias that falls with N: compare only scores of equal numbers of images.

    Args:
      features: [N, D], N >= 2; their covariance C1 is that of the sample.
      reference: of the real images.
      root: `square_root(reference.covariance)`, to compute it once for many calls.
    """
    root = square_root(reference.covariance) if root is None else root
    features = np.asarray(features, np.float64)
    mean = features.mean(0)
    centred = (features - mean) / np.sqrt(len(features) - 1)
    # C1 = X^T X. The eigenvalues of C1 C2 are those of R C1 R with R^2 = C2, and so the squared singular values of X R:
    # no complex numbers, no regularisation, and the smaller of two matrices if there are few images.
    turned = centred @ root
    gram = turned @ turned.T if len(turned) < turned.shape[1] else turned.T @ turned
    overlap = np.sqrt(scipy.linalg.eigvalsh(gram).clip(0)).sum()
    return float(
        np.sum((mean - reference.mean) ** 2) + np.sum(centred**2) + np.trace(reference.covariance) - 2 * overlap
    )


def square_root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive semi-definite matrix."""
    values, vectors = scipy.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(x [n, D], y [m, D]) -> [n, m]"""


def polynomial_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x y / D + 1)^3, the kernel of KID (https://arxiv.org/abs/1801.01401)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian_kernel(x: np.ndarray, y: np.ndarray, width: float = 10.0) -> np.ndarray:
    """exp(-|x - y|^2 / (2 width^2)); the width is CMMD's (https://arxiv.org/abs/2401.09603)."""
    return np.exp(-squared_distances(x, y) / (2 * width**2))


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x_i - y_j|^2 [n, m]."""
    return np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T, 0)


def kernel_distance(x: np.ndarray, y: np.ndarray, kernel: Kernel = polynomial_kernel) -> tuple[float, float]:
    """The unbiased squared MMD of two sets, and its standard error: with Inception features the KID.

    All pairs are used, so nothing is random; published KIDs are means over random subsets and differ by less than their
    stated deviation. The error is the jackknife's over both sets. Where the sets are of one distribution the value is
    as often below 0 as above.

    Args:
      x: [n, D], n >= 3. y: [m, D], m >= 3.
    """
    x, y = (np.asarray(one, np.float64) for one in (x, y))
    n, m = len(x), len(y)
    # The sums over each row without the diagonal: leaving one row out changes the total by these alone.
    within_x, within_y = (_row_sums(one, one, kernel) - _diagonal(one, kernel) for one in (x, y))
    across_x, across_y = _row_sums(x, y, kernel), _row_sums(y, x, kernel)
    total_x, total_y, total = within_x.sum(), within_y.sum(), across_x.sum()
    value = total_x / (n * (n - 1)) + total_y / (m * (m - 1)) - 2 * total / (n * m)
    without_x = (total_x - 2 * within_x) / ((n - 1) * (n - 2)) + total_y / (m * (m - 1))
    without_x -= 2 * (total - across_x) / ((n - 1) * m)
    without_y = total_x / (n * (n - 1)) + (total_y - 2 * within_y) / ((m - 1) * (m - 2))
    without_y -= 2 * (total - across_y) / (n * (m - 1))
    variance = sum((len(one) - 1) / len(one) * np.sum((one - one.mean()) ** 2) for one in (without_x, without_y))
    return float(value), float(np.sqrt(variance))


def _row_sums(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> np.ndarray:
    return np.concatenate([kernel(rows, y).sum(1) for rows in _pieces(x)])


def _diagonal(x: np.ndarray, kernel: Kernel) -> np.ndarray:
    return np.concatenate([np.diagonal(kernel(rows, rows)) for rows in _pieces(x, 128)])


def _pieces(x: np.ndarray, rows: int | None = None) -> Iterator[np.ndarray]:
    rows = rows or ROWS
    return (x[start : start + rows] for start in range(0, len(x), rows))


class Coverage(NamedTuple):
    """How the samples lie among the real images, each share between 0 and 1, density above 0.

    Attributes:
      precision: samples within the manifold of the real images: fidelity (https://arxiv.org/abs/1904.06991).
      recall: real images within the manifold of the samples: diversity.
      density, coverage: the same, robust against outliers (https://arxiv.org/abs/2002.09797).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbourhoods(samples: np.ndarray, real: np.ndarray, nearest: int = 5) -> Coverage:
    """Precision, recall, density and coverage of samples [n, D] and real images [m, D].

    Args:
      nearest: the neighbour whose distance is the radius of a point's neighbourhood, fewer than n and m.
    """
    samples, real = (np.asarray(one, np.float64) for one in (samples, real))
    sample_radius, real_radius = (_radius(one, nearest) for one in (samples, real))
    hits, nearest_sample = np.zeros(len(samples)), np.full(len(real), np.inf)
    recalled = np.zeros(len(real), bool)
    for start in range(0, len(samples), ROWS):
        rows = slice(start, start + ROWS)
        distances = squared_distances(samples[rows], real)
        hits[rows] = (distances <= real_radius).sum(1)
        nearest_sample = np.minimum(nearest_sample, distances.min(0))
        recalled |= (distances <= sample_radius[rows, None]).any(0)
    return Coverage(
        precision=float((hits > 0).mean()),
        recall=float(recalled.mean()),
        density=float(hits.mean() / nearest),
        coverage=float((nearest_sample <= real_radius).mean()),
    )


def _radius(points: np.ndarray, nearest: int) -> np.ndarray:
    """Squared distance [N] of each point to its `nearest`-th neighbour, not counting itself."""
    return np.concatenate(
        [np.partition(squared_distances(rows, points), nearest, axis=1)[:, nearest] for rows in _pieces(points)]
    )


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The cosine [N] of each row of x [N, D] with the same row of y [N, D]."""
    x, y = (np.asarray(one, np.float64) for one in (x, y))
    return (x * y).sum(1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))


def r_precision(images: np.ndarray, texts: np.ndarray, own: np.ndarray, candidates: int, seed: int) -> np.ndarray:
    """Whether each image is nearer to its own text than to other ones, drawn by the seed.

    Args:
      images: [N, D]. texts: [M, D] of distinct texts. own: [N], the row of each image's text.
      candidates: texts to choose from, its own among them; at most M.

    Returns:
      [N] of 0.0 and 1.0. A tie, up to rounding, is lost.
    """
    images, texts = (np.asarray(one, np.float64) for one in (images, texts))
    images, texts = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (images, texts))
    rng = np.random.default_rng(seed)
    right = np.zeros(len(images))
    for place, (image, mine) in enumerate(zip(images, own, strict=True)):
        others = rng.choice(len(texts) - 1, candidates - 1, replace=False)
        others += others >= mine
        right[place] = image @ texts[mine] > np.max(texts[others] @ image, initial=-np.inf) + 1e-9
    return right


def mean_interval(values: np.ndarray, groups: np.ndarray, *, draws: int = 2000, seed: int = 0) -> Interval:
    """The mean of values [N], with the 95% percentile interval of a bootstrap over groups.

    Images of one prompt are alike, so whole groups are drawn, not single images.

    Args:
      groups: [N] any labels, such as the prompt of each image.
    """
    _, index = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(index, weights=values), np.bincount(index).astype(float)
    drawn = np.random.default_rng(seed).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=draws)
    means = (drawn @ sums) / (drawn @ counts)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(np.mean(values)), float(low), float(high))


def spread_interval(
    statistic: Callable[[np.ndarray], float], groups: np.ndarray, *, draws: int = 20, seed: int = 0
) -> Interval:
    """A statistic of N images, plus and minus 1.96 of its deviation in a bootstrap over groups.

    For distances, which are biased upwards in a bootstrap because images repeat: only their spread is used.

    Args:
      statistic: of the indices of images.
      groups: [N] any labels.
    """
    labels, index = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(index == label) for label in range(len(labels))]
    rng = np.random.default_rng(seed)
    value = statistic(np.arange(len(groups)))
    replicas = []
    for _ in range(draws):
        chosen = rng.integers(len(labels), size=len(labels))
        replicas.append(statistic(np.concatenate([members[label] for label in chosen])))
    error = 1.96 * float(np.std(replicas, ddof=1))
    return Interval(float(value), float(value) - error, float(value) + error)
