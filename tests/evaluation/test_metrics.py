"""Metrics on images whose features are known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation import metrics, statistics
from ernie_vilg_jax.evaluation.evaluate import needed
from ernie_vilg_jax.evaluation.image_sets import Files, OfPrompts
from ernie_vilg_jax.evaluation.metrics import Evidence, Metric, Reference, judge
from ernie_vilg_jax.pipeline.prompts import Prompt

COLOURS = {"red": (200, 10, 10), "green": (10, 200, 10), "blue": (10, 10, 200), "红色": (200, 10, 10)}


class Colours:
    """The mean colour of an image; of a text, the colour it names."""

    name, fingerprint = "colours", "1"

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([image.mean((0, 1)) for image in images], np.float32)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([COLOURS[text] for text in texts], np.float32)


def draw(folder: Path, colours: Sequence[str], noise: float, seed: int) -> Files:
    rng, files = np.random.default_rng(seed), []
    folder.mkdir()
    for number, name in enumerate(colours):
        pixels = np.clip(rng.normal(COLOURS[name], noise, (2, 2, 3)), 0, 255).astype(np.uint8)
        files.append(folder / f"{number:03d}.png")
        Image.fromarray(pixels).save(files[-1])
    return Files(tuple(files))


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    """Forty images of four prompts: half of those of "blue" are red. And sixty real ones."""
    prompts = tuple(
        Prompt(str(number), text, "zh" if text == "红色" else "en", category)
        for number, (text, category) in enumerate([("red", "warm"), ("green", "cold"), ("blue", "cold"), ("红色", "")])
    )
    own = np.repeat(np.arange(4), 10)
    shown = [prompts[number].text for number in own]
    shown[20:25] = ["red"] * 5
    made = OfPrompts(draw(tmp_path / "made", shown, 9.0, 0), prompts, own)
    real = draw(tmp_path / "real", ["red", "green", "blue"] * 20, 9.0, 1)
    networks = {name: Colours() for name in ("inception", "clip", "dinov2", "efficientnet")}
    kept = tmp_path / "kept"
    return Evidence(made, Reference(real, networks, kept), networks, kept)


def test_clip_score_is_the_mean_cosine_overall_and_by_group(evidence: Evidence) -> None:
    scores = {score.group: score for score in judge(["clip_score"], evidence)}
    features, texts = evidence.features("clip"), evidence.texts("clip")[evidence.made.own]
    cosines = [float(f @ t / np.linalg.norm(f) / np.linalg.norm(t)) for f, t in zip(features, texts, strict=True)]
    assert scores[""].value == pytest.approx(100 * np.mean(cosines), rel=1e-5)
    assert set(scores) == {"", "en", "zh", "category cold", "category warm"}
    assert scores["category cold"].value == pytest.approx(100 * np.mean(cosines[10:30]), rel=1e-5)
    assert scores["zh"].count == 10
    assert scores[""].low < scores[""].value < scores[""].high


def test_r_precision_is_the_share_nearest_to_their_own_prompt(evidence: Evidence) -> None:
    scores = {score.group: score for score in judge(["r_precision"], evidence)}
    # Red and 红色 have one feature, so neither is nearer to the red images; and five images of blue are red.
    assert scores["category warm"].value == 0
    assert scores["category cold"].value == 0.75


@pytest.mark.parametrize("name", ["fid", "fd_dinov2", "frechet_efficientnet"])
def test_frechet_metrics_are_the_distance_of_the_moments(evidence: Evidence, name: str) -> None:
    (score,) = judge([name], evidence)
    features, real = evidence.features("clip").astype(float), evidence.real("clip").astype(float)
    expected = statistics.frechet_distance(features, statistics.moments(real))
    assert score.value == pytest.approx(expected)
    assert score.low < score.value < score.high
    assert score.count == 40


@pytest.mark.parametrize("name", ["kid", "cmmd", "kid_efficientnet"])
def test_kernel_metrics_tell_other_colours_from_the_same(evidence: Evidence, tmp_path: Path, name: str) -> None:
    (score,) = judge([name], evidence)
    rng = np.random.default_rng(3)
    drawn = [[("red", "green", "blue")[place] for place in rng.integers(3, size=60)] for _ in range(2)]
    made, real = (draw(tmp_path / str(number), colours, 9.0, number) for number, colours in enumerate(drawn))
    prompts = (Prompt("0", "red", "en"),)
    reference = Reference(real, evidence.networks)
    same = Evidence(OfPrompts(made, prompts, np.zeros(60, int)), reference, evidence.networks)
    (none,) = judge([name], same)
    assert none.low < 0 < none.high
    assert score.value > none.value


def test_neighbourhoods_give_four_scores(evidence: Evidence) -> None:
    scores = judge(["neighbourhoods"], evidence)
    assert [score.metric for score in scores] == ["precision", "recall", "density", "coverage"]
    expected = statistics.neighbourhoods(evidence.features("clip"), evidence.real("clip"))
    assert [score.value for score in scores] == pytest.approx(list(expected))


def test_a_value_that_says_nothing_of_an_image_is_left_out(evidence: Evidence) -> None:
    values = np.where(np.arange(40) < 10, 1.0, np.nan)
    scores = metrics.per_image("x", values, evidence)
    assert [(score.group, score.value, score.count) for score in scores] == [
        ("", 1, 10), ("en", 1, 10), ("category warm", 1, 10)
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "metric"), metrics.METRICS.items())
def test_every_metric_says_what_it_needs(name: str, metric: Metric) -> None:
    assert needed([name], with_reference=True) == list(metric.networks)
    if metric.compares:
        with pytest.raises(UserError, match=f"--metrics: {name} compares with real images"):
            needed([name], with_reference=False)


def test_an_unknown_metric_is_told() -> None:
    with pytest.raises(UserError, match="'fidd' is not known: choose from fid, kid"):
        needed(["fidd"], with_reference=True)
