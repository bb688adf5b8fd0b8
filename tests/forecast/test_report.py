"""Reports and errors of forecasts; tests/test_aot.py compiles with the real TPU compiler."""

from types import SimpleNamespace

import pytest

from ernie_vilg_jax.chips import Chip
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.forecast.report import GIB, Forecast, needed, peak_of, search

CHIP = Chip("v0", hbm=100.0, bandwidth=1e9, flops=1e12, clock=1e9)


def forecast(peak: float, batch: int = 1, refused: str = "", **state: float) -> Forecast:
    return Forecast(
        "a", CHIP, 1, batch, state, temporary=50.0, peak=peak, flops=1.0, executed=1.0, compile_seconds=1.0,
        refused=refused,
    )  # fmt: skip


def test_the_search_finds_the_limit_in_few_tries() -> None:
    said: list[str] = []
    # 20 of 100 whatever the batch, and 7.5 for each 4: ten of them fit.
    assert search(4, lambda batch: forecast(20 + 7.5 * batch / 4, batch), said.append).batch == 40
    assert [line.split(":")[0] for line in said] == ["batch 4", "batch 8", "batch 40"]


@pytest.mark.parametrize("limit", range(1, 20))
def test_the_search_finds_limits_off_the_linear_estimate(limit: int) -> None:
    tried: list[int] = []

    def compiled(batch: int) -> Forecast:
        tried.append(batch)
        return forecast(60 + batch if batch <= limit else 1e9, batch)

    assert search(1, compiled, lambda line: None).batch == limit
    assert len(set(tried)) == len(tried) <= 9


def test_the_search_ends_when_the_compiler_fails() -> None:
    refused = lambda batch: "no room" if batch > 2 else ""  # noqa: E731
    assert search(1, lambda batch: forecast(50.0, batch, refused(batch)), lambda line: None).batch == 2


def test_a_first_batch_that_does_not_fit() -> None:
    with pytest.raises(UserError, match="a batch of 4 does not fit: use a smaller one"):
        search(4, lambda batch: forecast(1e9), lambda line: None)


@pytest.mark.parametrize(
    ("found", "part"),
    [
        (forecast(101.0, experts=30.0, batch=2), "temporary"),
        (forecast(101.0, experts=60.0, text=10.0), "experts"),
        (forecast(10.0, refused="Ran out of memory", experts=20.0), "temporary"),
    ],
)
def test_a_program_that_does_not_fit_names_its_largest_arrays(found: Forecast, part: str) -> None:
    assert not found.fits
    assert found.because.startswith(part)
    assert f"does not fit: {found.peak / GIB:.2f} GiB" in found.text()


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ("the total memory required for HLO temporaries (27.50G) exceeds available HBM (15.75G)", 27.5 * GIB),
        ("Ran out of memory in memory space hbm. Used 97.91G of 95.74G hbm. Exceeded hbm capacity", 97.91 * GIB),
        ("Used 900.5M of 500M hbm", 900.5 * 2**20),
        ("something else", float("inf")),
    ],
)
def test_memory_that_a_refused_program_would_need(said: str, size: float) -> None:
    assert needed(f"RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: {said}") == size


@pytest.mark.parametrize(
    ("own", "peak"),
    [(2200, 2200), (2100, 1000 + 600 - 500 + 1050), (None, 1000 + 600 - 500 + 1050)],
    ids=["the compiler's", "laid out with gaps", "an older jaxlib"],
)
def test_the_peak_counts_results_and_code(own: int | None, peak: int) -> None:
    sizes = {"argument": 1000, "output": 600, "alias": 500, "temp": 1050, "generated_code": 7}
    memory = SimpleNamespace(**{f"{name}_size_in_bytes": size for name, size in sizes.items()})
    if own is not None:
        memory.peak_memory_in_bytes = own
    assert peak_of(memory) == peak + 7


def test_repeated_work_is_not_model_work() -> None:
    again = Forecast(
        "a", CHIP, 1, 1, {}, temporary=0.0, peak=1.0, flops=2e11, executed=3e11, compile_seconds=1.0, seconds=0.4
    )
    assert "0.20 TFLOP a chip" in again.text()
    assert "1.50 times as many" in again.text()
    assert "50% MFU" in again.text()
