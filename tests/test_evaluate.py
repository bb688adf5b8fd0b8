"""`evaluate` as a user runs it: scores and report of a folder of images, by one process, by two, and again."""

import json
import os
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from ernie_vilg_jax import evaluate
from ernie_vilg_jax.errors import UserError
from tests import feature_models
from tests.commands import Result, on_devices, python_m, run_all

METRICS = "clip_score,r_precision,cmmd"
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with random weights, images of six prompts, and real images."""
    root = tmp_path_factory.mktemp("evaluate")
    (root / "clip").mkdir()
    feature_models.clip(root / "clip")
    rng = np.random.default_rng(0)
    for folder, count in (("made", 3), ("real", 5)):
        (root / folder).mkdir()
        for number in range(6):
            for place in range(count):
                pixels = rng.integers(0, 256, (1, 1, 3)) + rng.integers(-20, 20, (24, 30, 3))
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(root / folder / f"p{number}_{place}.png")
    rows = [f"p{number},a {name} thing,{'warm' if number < 3 else ''}" for number, name in enumerate(
        ("red", "orange", "yellow", "green", "blue", "black"))]  # fmt: skip
    (root / "prompts.csv").write_text("\n".join(["id,prompt,category", *rows]))
    return root


def flags_of(inputs: Path, output: Path, *more: str) -> list[str]:
    return [
        *("evaluate", f"--images={inputs / 'made'}", f"--prompts={inputs / 'prompts.csv'}", f"--metrics={METRICS}"),
        *(f"--reference={inputs / 'real'}", f"--weights=clip={inputs / 'clip'}", f"--output={output}", *more),
    ]


def scores(output: Path) -> dict[tuple[str, str], list[float]]:
    (result,) = json.loads((output / "results.json").read_text())["results"]
    return {(one["metric"], one["group"]): [one["value"], one["low"], one["high"]] for one in result["scores"]}


def environment(folder: Path, devices: int) -> dict[str, str]:
    return {**on_devices(devices), "ERNIE_VILG_JAX_CACHE": str(folder / "cache"), "JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="module")
def scored(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The output of one process with one device, and what it said."""
    folder = tmp_path_factory.mktemp("one")
    (done,) = run_all([flags_of(inputs, folder / "out")], environment=environment(folder, 1))
    assert done.status == 0, done.stderr
    return folder / "out", done


@pytest.mark.proofs
@pytest.mark.slow
def test_scores_are_the_same_on_eight_devices_and_by_two_processes(
    inputs: Path, scored: tuple[Path, Result], tmp_path: Path
) -> None:
    (done,) = run_all([flags_of(inputs, tmp_path / "eight")], environment=environment(tmp_path / "a", 8))
    assert done.status == 0, done.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    peers = [f"--coordinator=127.0.0.1:{port}", "--num_processes=2"]
    running = [
        subprocess.Popen(
            [*python_m(), f"ernie_vilg_jax.{line[0]}", *line[1:]],
            env={**os.environ, **environment(tmp_path / "b", 2), "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
        for line in [flags_of(inputs, tmp_path / "two", *peers, f"--process_id={number}")]
    ]
    ends = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], ends
    expected = scores(scored[0])
    assert {metric for metric, _ in expected} == set(METRICS.split(","))
    assert ("clip_score", "category warm") in expected
    for name in ("eight", "two"):
        found = scores(tmp_path / name)
        assert set(found) == set(expected)
        for key, values in expected.items():
            np.testing.assert_allclose(found[key], values, rtol=1e-5, atol=1e-5)


@pytest.mark.proofs
@pytest.mark.slow
def test_the_page_has_tables_and_pictures_and_needs_no_other_file(scored: tuple[Path, Result]) -> None:
    output, done = scored
    assert "clip_score" in done.stderr and "report.html" in done.stderr
    page = (output / "report.html").read_text()
    assert "category warm" in page and "data:image/png;base64," in page
    assert 'src="http' not in page and "href=" not in page
    results = json.loads((output / "results.json").read_text())
    assert results["prompts"] == "prompts.csv" and results["networks"]["clip"]
    assert results["results"][0]["images"] == 18


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"images": None}, "give either --checkpoint=, of a model to make images with, or --images="),
        ({"checkpoint": "demo"}, "give either --checkpoint="),
        ({"prompts": None}, "--prompts is missing"),
        ({"prompts": "none.csv"}, "--prompts=none.csv: there is no such file"),
        ({"metrics": "fidd"}, "--metrics: 'fidd' is not known: choose from fid"),
        ({"metrics": "fid"}, "'inception' needs the file or folder of its weights: inception=PATH"),
        ({"reference": None}, "--metrics: cmmd compares with real images"),
        ({"reference": "none"}, "--reference=none: there is no such folder"),
        ({"weights": "clip"}, "--weights=clip must be NAME=PATH"),
        ({"weights": "klip=x"}, "--weights=klip=x must be NAME=PATH, where NAME is one of inception"),
        ({"weights": "clip=none"}, "none"),
        ({"images": "none"}, "--images=none: there is no such folder"),
        ({"images": None, "checkpoint": "none"}, "--checkpoint=none: there is no such folder"),
        ({"images": None, "checkpoint": "demo", "guidance_scales": "1,x"}, "--guidance_scales=1,x must be numbers"),
        ({"images": None, "checkpoint": "demo", "candidates": "4"}, "--candidates=4: a scorer has to say which"),
        ({"images": None, "checkpoint": "demo", "rerank": "klip"}, "scorer 'klip' must be one of"),
        ({"images": None, "checkpoint": "demo", "steps": "0"}, "--steps=0"),
    ],
)  # fmt: skip
def test_wrong_flags_get_one_sentence(
    inputs: Path, tmp_path: Path, changes: dict[str, str | None], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = dict(part.removeprefix("--").split("=", 1) for part in flags_of(inputs, tmp_path / "out")[1:])
    given = [f"--{name}={value}" for name, value in (base | changes).items() if value is not None]
    with flagsaver.flagsaver(), pytest.raises(UserError) as caught:
        flags.FLAGS(["evaluate", *given])
        evaluate.main(["evaluate"])
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert not list((tmp_path / "out").glob("*"))
