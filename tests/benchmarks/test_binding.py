"""The benchmark of the binding checker: its counting, not its figures."""

import pytest

from benchmarks import binding


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # R: prop.test(x, n, correct = FALSE)$conf.int
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (8, 10, 0.4902, 0.9433), (1960, 2000, 0.9729, 0.9853)],
)
def test_wilson_interval(right, count, low, high):
    assert binding.wilson(right, count) == pytest.approx((low, high), abs=1e-4)


def test_the_table_sums_the_looks():
    part = {"right": [9, 10], "shuffled": [0, 10], "near": [1, 10]}
    other = {"right": [10, 10], "shuffled": [0, 10], "near": [0, 0]}
    lines = binding.table({"shapes/scenes": {"object": part}, "art/scenes": {"object": other}}).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["object", "shapes", "90.0"],
        ["object", "art", "100.0"],
        ["object", "all", "95.0"],
    ]
    assert "of 20" in lines[-1] and lines[2].split()[-1] == "-"
