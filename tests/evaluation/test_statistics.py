"""Distances against closed forms, brute force and the libraries that publish scores."""

import math

import numpy as np
import pytest

from ernie_vilg_jax.evaluation import statistics


def normal(seed: int, n: int, d: int, mean: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return mean + scale * np.random.default_rng(seed).normal(size=(n, d))


def test_frechet_distance_has_the_closed_form_of_diagonal_gaussians() -> None:
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * np.sqrt(3 / 4)  # sample variance 1, uncorrelated
    features = np.array([1.0, 2.0]) + signs * np.array([2.0, 3.0])
    reference = statistics.Moments(np.array([0.0, 0.0]), np.diag([1.0, 1.0]), 10)
    assert statistics.frechet_distance(features, reference) == pytest.approx(1 + 4 + (2 - 1) ** 2 + (3 - 1) ** 2)


@pytest.mark.parametrize("count", [5, 16, 17, 200])
def test_frechet_distance_equals_the_formula_with_a_matrix_root(count: int) -> None:
    features, real = normal(0, count, 16, 0.2) @ normal(1, 16, 16), normal(2, 300, 16) @ normal(3, 16, 16)
    reference = statistics.moments(real)
    covariance = np.cov(features, rowvar=False)
    # The eigenvalues of a product of two covariances are real and positive, up to rounding.
    roots = np.sqrt(np.linalg.eigvals(covariance @ reference.covariance).real.clip(0))
    distance = np.sum((features.mean(0) - reference.mean) ** 2)
    expected = distance + np.trace(covariance + reference.covariance) - 2 * roots.sum()
    assert statistics.frechet_distance(features, reference) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("count", [10, 200])
def test_a_set_has_no_distance_from_itself(count: int) -> None:
    few = normal(0, count, 64)
    assert statistics.frechet_distance(few, statistics.moments(few)) == pytest.approx(0, abs=1e-5)


def test_moments_are_those_of_the_sample() -> None:
    features = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]])
    mean, covariance, count = statistics.moments(features)
    np.testing.assert_allclose(mean, [2, 2])
    np.testing.assert_allclose(covariance, [[4, 3], [3, 3]])
    assert count == 3


def test_distances_equal_torch_fidelity() -> None:
    import torch

    from tests.feature_models import torch_fidelity

    fid, kid = torch_fidelity("metric_fid"), torch_fidelity("metric_kid")
    x, y = normal(0, 300, 32).astype(np.float32), normal(1, 300, 32, 0.3, 1.2).astype(np.float32)
    theirs = fid.fid_statistics_to_metric(
        *(fid.fid_features_to_statistics(torch.from_numpy(one)) for one in (x, y)), False
    )
    ours = statistics.frechet_distance(x, statistics.moments(y))
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-5)
    # One subset of everything has no randomness.
    whole = {"kid_subsets": 1, "kid_subset_size": 300, "verbose": False}
    theirs = kid.kid_features_to_metric(torch.from_numpy(x), torch.from_numpy(y), **whole)
    value, _ = statistics.kernel_distance(x, y)
    assert value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)


@pytest.mark.parametrize("kernel", [statistics.polynomial_kernel, statistics.gaussian_kernel])
def test_kernel_distance_equals_its_definition(kernel: statistics.Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "ROWS", 7)
    x, y = normal(0, 20, 5), normal(1, 30, 5, 0.5)

    def brute(x: np.ndarray, y: np.ndarray) -> float:
        one = lambda a, b: float(kernel(a[None], b[None])[0, 0])  # noqa: E731
        within = lambda z: np.mean([one(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j])  # noqa: E731
        return float(within(x) + within(y) - 2 * np.mean([one(a, b) for a in x for b in y]))

    value, error = statistics.kernel_distance(x, y, kernel)
    assert value == pytest.approx(brute(x, y))
    left_out = [[brute(np.delete(x, i, 0), y) for i in range(20)], [brute(x, np.delete(y, i, 0)) for i in range(30)]]
    variance = sum((len(one) - 1) / len(one) * np.sum((np.array(one) - np.mean(one)) ** 2) for one in left_out)
    assert error == pytest.approx(math.sqrt(variance))


def test_kernel_distance_of_one_distribution_is_zero_within_its_error() -> None:
    found = np.array(
        [statistics.kernel_distance(normal(2 * i, 100, 16), normal(2 * i + 1, 100, 16)) for i in range(50)]
    )
    values, errors = found.T
    assert abs(values.mean()) < 2 * values.std(ddof=1) / math.sqrt(50)
    assert (abs(values) < 2 * errors).mean() >= 0.9
    assert (values < 0).any()
    # Of two distributions it is not.
    value, error = statistics.kernel_distance(normal(0, 100, 16), normal(1, 100, 16, 0.5))
    assert value > 3 * error


def test_neighbourhoods_equal_their_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "ROWS", 7)
    samples, real, k = normal(0, 40, 4), normal(1, 50, 4, 0.8, 1.5), 3
    distance = lambda a, b: float(np.linalg.norm(a - b))  # noqa: E731
    radius = lambda point, points: sorted(distance(point, other) for other in points)[k]  # noqa: E731
    ball = [radius(one, real) for one in real]
    around = [radius(one, samples) for one in samples]
    inside = np.array([[distance(s, r) <= b for r, b in zip(real, ball, strict=True)] for s in samples])
    expected = {
        "precision": inside.any(1).mean(),
        "recall": np.mean([any(distance(s, r) <= b for s, b in zip(samples, around, strict=True)) for r in real]),
        "density": inside.sum() / (k * len(samples)),
        "coverage": np.mean([min(distance(s, r) for s in samples) <= b for r, b in zip(real, ball, strict=True)]),
    }
    assert statistics.neighbourhoods(samples, real, k)._asdict() == pytest.approx(expected)


def test_r_precision_counts_images_nearest_to_their_own_text() -> None:
    texts = np.eye(6)
    own = np.arange(6)
    images = texts.copy()
    images[2] = texts[3]
    np.testing.assert_array_equal(statistics.r_precision(images, texts, own, 6, seed=0), [1, 1, 0, 1, 1, 1])
    # Among two of six, the wrong one is not always met.
    shares = [statistics.r_precision(images, texts, own, 2, seed=seed)[2] for seed in range(200)]
    assert np.mean(shares) == 0  # its own text is as far as every other: a tie is lost
    noise = normal(0, 2000, 8)
    chance = statistics.r_precision(noise, normal(1, 50, 8), np.arange(2000) % 50, 10, seed=0).mean()
    assert chance == pytest.approx(0.1, abs=0.03)


def test_the_interval_of_a_mean_covers_it_when_images_of_a_prompt_are_alike() -> None:
    groups = np.repeat(np.arange(40), 5)
    covered, narrow = 0, 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        values = np.repeat(rng.normal(size=40), 5) + 0.1 * rng.normal(size=200)
        _, low, high = statistics.mean_interval(values, groups, draws=400, seed=seed)
        covered += low <= 0 <= high
        _, low, high = statistics.mean_interval(values, np.arange(200), draws=400, seed=seed)
        narrow += low <= 0 <= high
    assert covered >= 88
    assert narrow < 75  # single images as groups: too sure of itself


def test_the_interval_of_a_distance_has_the_spread_of_fresh_samples() -> None:
    reference = statistics.moments(normal(999, 5000, 6))

    def distance(features: np.ndarray) -> float:
        return statistics.frechet_distance(features, reference)

    fresh = np.std([distance(normal(seed, 200, 6, 0.5)) for seed in range(100)])
    features = normal(500, 200, 6, 0.5)
    value, low, high = statistics.spread_interval(lambda rows: distance(features[rows]), np.arange(200), draws=100)
    assert value == pytest.approx(distance(features))
    assert (high - low) / (2 * 1.96) == pytest.approx(fresh, rel=0.4)
