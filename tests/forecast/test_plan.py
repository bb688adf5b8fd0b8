"""The plan of a run: goodput against a formula, reports, and the page in the docs."""

import math
from pathlib import Path

import pytest

from configs import paper
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.forecast.goodput import Interruptions
from ernie_vilg_jax.forecast.plan import Assumptions, plan_phase, read_report, read_slices, scaled
from ernie_vilg_jax.forecast.plan_page import page

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "docs/reports/paper"


@pytest.mark.parametrize("between", [3_000.0, 86_400.0])
@pytest.mark.parametrize(("save", "restart"), [(1.0, 900.0), (60.0, 60.0), (120.0, 1800.0)])
@pytest.mark.parametrize("interval", [300.0, 3600.0])
def test_the_simulation_agrees_with_the_formula(between: float, save: float, restart: float, interval: float):
    risk = Interruptions(between, save, restart)
    found, expected = risk.simulate(interval, 3000 * between), risk.formula(interval)
    assert found == pytest.approx(expected, rel=0.06)
    assert found == pytest.approx(risk.simulate(interval, 3000 * between, seed=1), rel=0.12)


def test_without_interruptions_only_saves_cost_time():
    risk = Interruptions(1e12, save=10.0, restart=900.0)
    assert risk.simulate(90.0, 9000.0) == pytest.approx(0.9) and risk.formula(90.0) == pytest.approx(0.9)


def test_a_run_that_is_interrupted_more_often_than_it_restarts_hardly_moves():
    risk = Interruptions(100.0, save=10.0, restart=500.0)
    assert risk.formula(100.0) < 0.005
    assert risk.simulate(100.0, 1000.0) < 0.02


@pytest.mark.parametrize(
    ("between", "save", "restart"), [(86400.0, 1.0, 900.0), (86400.0, 60.0, 900.0), (7200.0, 5.0, 60.0)]
)
def test_the_best_interval_is_about_the_best(between: float, save: float, restart: float):
    risk = Interruptions(between, save, restart)
    best = max(risk.formula(save * 1.05**power) for power in range(1, 250))
    assert risk.formula(risk.best_interval()) == pytest.approx(best, rel=1e-3)


def test_figures_of_a_report():
    report = read_report(REPORTS / "v5p-4x4x8/experts_step_encoded.txt")
    assert (report.chips, report.images, report.seconds) == (128, 2560, 4.8082)
    assert report.flops == pytest.approx(128 * 390.18e12)
    assert read_report(REPORTS / "v5p-4x4x8/base_step_encoded.txt").seconds is None  # not compiled so far


def test_a_phase_by_hand():
    (one,) = [found for found in read_slices(REPORTS) if found.name == "v5p-4x4x8"]
    given = Assumptions(mfu=0.5, slices=2, preemptions=0.5, copy_gbs=1, write_gbs=1, chips_per_host=4)
    phase = plan_phase(one, "base", 1000, state=256e9, given=given)
    step = 398.10e12 / (459e12 * 0.5)  # a chip's share of the work, by its peak
    assert phase.step_seconds == pytest.approx(step / 2) and phase.images == 2_560_000
    assert phase.hours == pytest.approx(1000 * step * 128 / 3600)
    assert (phase.stall, phase.write) == (pytest.approx(1.0), pytest.approx(4.0))
    assert phase.interval == pytest.approx(math.sqrt(2 * (86400 + 900)) - 1, rel=1e-6)
    assert phase.goodput == pytest.approx(phase.expected, abs=2e-3) and phase.seldom < phase.expected


def test_a_slice_without_reports_has_the_same_work_on_its_chips():
    slices = read_slices(REPORTS)
    half = scaled(slices, "v5p-4x4x4")
    assert half.chips == 64
    for name, program in half.programs.items():
        whole = next(one for one in slices if one.name == "v5p-4x4x8").programs[name]
        assert (program.flops, program.images) == (whole.flops, whole.images)
        assert program.seconds is None or program.seconds == 2 * (whole.seconds or 0)


@pytest.mark.parametrize("name", ["v5p", "v9-4x4", "v5e-4x4", "v5p-4xa", "v5p-0x4"])
def test_a_slice_that_cannot_be_scaled_is_named(name: str):
    with pytest.raises(UserError, match=f"--also={name}: give a slice such as v5p-4x4x4"):
        scaled(read_slices(REPORTS), name)


def test_mistakes_are_one_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="has no folder of a slice with reports"):
        read_slices(tmp_path)
    (tmp_path / "v5p-2x2x1").mkdir()
    with pytest.raises(UserError, match=r"needs the report .*encoding\.txt: make it with `aot --program=all"):
        read_slices(tmp_path)
    (tmp_path / "v5p-2x2x1/encoding.txt").write_text("nothing")
    with pytest.raises(UserError, match="is not a report of `aot`"):
        read_slices(tmp_path)
    for given, message in (
        ({"speed": "1"}, "no 'speed': it has pairs"),
        ({"mfu": "fast"}, "mfu=fast: give a positive"),
    ):
        with pytest.raises(UserError, match=message):
            Assumptions.of(given)
    assert Assumptions.of({"mfu": "0.4"}).mfu == 0.4


@pytest.mark.documents
def test_the_page_in_the_docs_is_what_the_command_writes():
    text = (ROOT / "docs/scale.md").read_text()
    (line,) = [row.strip() for row in text.splitlines() if row.startswith("python -m ernie_vilg_jax.aot")]
    slices = read_slices(REPORTS)
    slices.append(scaled(slices, "v5p-4x4x4"))
    assert "--config=configs/paper.py " in line and "--also=v5p-4x4x4" in line and "--assume" not in line
    assert page(paper.get_config(), slices, Assumptions(), line) == text
