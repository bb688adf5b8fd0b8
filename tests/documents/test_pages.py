"""The commands and the Python of each page, run in order in a folder, as a reader would who has the files they name.

    python -m pytest -q -m documents tests/documents/test_pages.py       # minutes on one core

`tables.py` says which, and which flags make them shorter. `configs/demo.py` has the sizes of `smoke` there, on drawn
shapes, with the demo's four experts. README.md samples from the model in the package, other pages from the run that
README.md trains.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from tests.commands import Result, on_devices, run_all
from tests.documents import blocks
from tests.documents.blocks import ROOT, Command
from tests.documents.tables import RUN, is_run_here, row
from tests.evaluation.study.conftest import write_images, write_prompts
from tests.tiny_run import once

pytestmark = [pytest.mark.slow, pytest.mark.documents]
TRAINED = "README.md"
"""The page whose data and runs the others begin with."""
SMALL = """from ernie_vilg_jax.configs import demo


def get_config(argument=None):
    config = demo.get_config(f"{argument},smoke" if argument else "smoke")
    config.experts.n = 4
    return config
"""
OURS = "python -m ernie_vilg_jax."
SMALL_MODEL = """import ernie_vilg_jax

_load = ernie_vilg_jax.load
ernie_vilg_jax.load = lambda path="runs/demo", **options: _load(path, **options)
"""
"""What `load()` loads is the run of README.md instead of the model in the package."""
DEVICES = {"docs/sampling.md": 4}
BEFORE = {
    "docs/data.md": "from ml_collections import ConfigDict\nc = ConfigDict({'data': {'sources': ()}})",
    "docs/api.md": SMALL_MODEL,
    "docs/evaluation.md": f"{SMALL_MODEL}pipe = ernie_vilg_jax.load()",
    "docs/evaluation_binding.md": "import numpy as np\nimage = np.zeros((64, 64, 3), np.uint8)",
    "docs/finetuning.md": SMALL_MODEL,
    "docs/samplers.md": f"{SMALL_MODEL}from dataclasses import dataclass\n"
    "from ernie_vilg_jax.diffusion.samplers.base import Discrete, Latents, row",
    "docs/sampling.md": "import ernie_vilg_jax",
}
"""What a block of Python has from the text around it."""


def colours(folder: Path) -> list[tuple[Path, str]]:
    """Ten images with captions."""
    names = [f"{shade} {kind}" for shade in ("red", "blue", "green", "yellow", "black") for kind in ("monster", "box")]
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        Image.new("RGB", (24, 24), name.split()[0]).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"a {name}\n")
    return [(folder / f"{i}.png", f"a {name}") for i, name in enumerate(names)]


def tars(folder: Path) -> None:
    (folder / "shards").mkdir()
    with tarfile.open(folder / "shards/0.tar", "w") as tar:
        for path in sorted((folder / "my_images").iterdir()):
            tar.add(path, path.name)


def parquet(folder: Path) -> None:
    (folder / "hub").mkdir()
    images = sorted((folder / "my_images").glob("*.png"))
    columns = {
        "image": [path.read_bytes() for path in images],
        "caption": [path.with_suffix(".txt").read_text() for path in images],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "hub/0.parquet")


def study(folder: Path) -> None:
    write_prompts(folder / "ViLG-300.csv")
    for n, path in enumerate(("runs/ours/images", "other/images")):
        write_images(folder / path, [f"{i:05d}_{k}" for i in range(6) for k in range(2)], n)


def first(folder: Path) -> None:
    shutil.copytree(folder / "runs/demo", folder / "runs/first")
    shutil.copytree(folder / "data/demo", folder / "data/mine")


def notebooks(folder: Path) -> None:
    shutil.copytree(ROOT / "colab", folder / "colab")


INPUTS: dict[str, tuple[Callable[[Path], None], ...]] = {
    "docs/colab.md": (notebooks,),
    "docs/data.md": (tars, parquet),
    "docs/finetuning.md": (first,),
    "docs/human_study.md": (study,),
    "docs/weights.md": (first,),
}
"""What the commands of a page read that no command before them wrote."""


def place(folder: Path, page: str, trained: Path | None) -> Path:
    """A reader's folder: a clone in which the demo is small, and their own files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "configs").mkdir()
    (folder / "configs/demo.py").write_text(SMALL)
    (folder / "docs").mkdir()
    for name in ("launch", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    colours(folder / "my_images")
    (folder / "old.txt").write_text("一只猫\na red apple\n")
    if trained:
        for name in ("data", "runs"):
            shutil.copytree(trained / name, folder / name)
    for make in INPUTS.get(page, ()):
        make(folder)
    return folder


def batches(page: str) -> Iterator[list[Command]]:
    """What is run of a page, in order; commands of the package that follow each other are together.

    What README.md says, too, is left out: its output is in the folder of every page.
    """
    run_here = [one for one in blocks.commands() if is_run_here(one.name)]
    done = [one.text.split() for one in run_here if one.page == TRAINED and page != TRAINED]
    batch: list[Command] = []
    for one in run_here:
        if one.page == page and one.text.split() not in done:
            if batch and not (batch[-1].text.startswith(OURS) and one.text.startswith(OURS)):
                yield batch
                batch = []
            batch.append(one._replace(text=f"{one.text} {RUN[str(row(one.name))]}"))
    if batch:
        yield batch


def run(page: str, folder: Path) -> None:
    """All that the page says to type, the commands first."""
    environment = {
        **on_devices(DEVICES.get(page, 1)),
        "PATH": f"{folder}/.venv/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }

    def bash(line: str) -> Result:
        done = subprocess.run(
            ["bash", "-c", line], cwd=folder, env={**os.environ, **environment}, text=True, capture_output=True
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def check(lines: Sequence[str], results: Sequence[Result]) -> None:
        for line, done in zip(lines, results, strict=True):
            assert done.status == 0, f"{page}: {line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
            assert "Traceback" not in done.stderr, f"{page}: {line}\n{done.stderr[-4000:]}"

    for batch in batches(page):
        if batch[0].text.startswith(OURS):  # the libraries are imported once for all of them
            typed = [(words[2].removeprefix("ernie_vilg_jax."), *words[3:]) for words in blocks.words(batch)]
            check([one.text for one in batch], run_all(typed, folder, environment))
        else:
            check([batch[0].shell], [bash(batch[0].shell)])
    python = [block for block in blocks.blocks() if block.page == page and block.language == "python"]
    if code := [block.text for block in python if is_run_here(block.name) and ">>>" not in block.text]:
        (folder / "page.py").write_text("\n\n".join([BEFORE.get(page, ""), *code]))
        check(["python page.py"], [bash("python page.py")])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once(tmp_path_factory, "documents", lambda folder: run(TRAINED, place(folder, TRAINED, None)))


def test_what_the_readme_says_leads_to_images(trained: Path) -> None:
    for path in ("samples/grid.png", "panda.png"):
        assert Image.open(trained / path).width > 10
    assert (trained / "runs/demo/experts/checkpoints/8").is_dir()


PAGES = sorted({one.page for one in (*blocks.commands(), *blocks.blocks()) if is_run_here(one.name)} - {TRAINED})


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_says_can_be_typed(page: str, trained: Path, tmp_path: Path) -> None:
    run(page, place(tmp_path / "clone", page, trained))
