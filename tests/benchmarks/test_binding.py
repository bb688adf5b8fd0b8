"""The benchmark of the binding checker: its counting, not its figures."""

from benchmarks import binding


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
