"""The report of a sweep: its tables, a plot of each pair of scores, and the images."""

from pathlib import Path

import numpy as np

from ernie_vilg_jax.evaluation import report
from ernie_vilg_jax.evaluation.evaluate import Result, Setting
from ernie_vilg_jax.evaluation.image_sets import Arrays, OfPrompts
from ernie_vilg_jax.evaluation.metrics import Score
from ernie_vilg_jax.pipeline.prompts import Prompt


def result(scale: float, names: tuple[str, ...]) -> Result:
    made = OfPrompts(
        Arrays(np.full((2, 8, 8, 3), 90, np.uint8)), (Prompt("a", "a <b>cat</b>", "en"),), np.zeros(2, int)
    )
    scores = tuple(Score(name, scale + place, scale, scale + 2, 2) for place, name in enumerate(names))
    return Result(Setting(f"guidance_scale={scale:g}", {"guidance_scale": scale}, lambda: made), made, scores, {})


def test_a_sweep_has_a_plot_of_each_pair_of_scores(tmp_path: Path) -> None:
    names = ("fid", "clip_score", "binding")
    report.write([result(1.0, names), result(3.0, names)], {"checkpoint": "demo"}, tmp_path)
    page = (tmp_path / "report.html").read_text()
    for pair in ("clip_score against fid", "binding against fid", "binding against clip_score"):
        assert f'alt="{pair}"' in page
    assert page.count("data:image/svg+xml;base64,") == 3
    assert page.count("data:image/png;base64,") == 2
    assert "guidance_scale 1" in page and "guidance_scale 3" in page
    assert "Scores of demo" in page
    assert "ERNIE-ViLG 2.0, 10 experts" in page, "published figures stand beside a FID"


def test_one_setting_has_no_plot_and_without_a_fid_nothing_published(tmp_path: Path) -> None:
    report.write([result(1.0, ("binding",))], {"images": "<script>"}, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "svg+xml" not in page and "Imagen" not in page
    assert "<script>" not in page


def test_values_have_as_many_digits_as_their_interval_is_worth() -> None:
    assert report.shown(Score("fid", 12.3456, 11.9, 12.8, 9)) == "12.35 (11.90 to 12.80)"
    assert report.shown(Score("fid", 123.456, 90.0, 150.0, 9)) == "123 (90 to 150)"
    assert report.shown(Score("x", 0.5, 0.5, 0.5, 9)) == "0.500 (0.500 to 0.500)"
