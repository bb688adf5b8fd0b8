"""The commands and the Python of each page, run in order in a folder, as a reader would who has the files they name.

    python -m pytest -q -m hosts tests/documents/test_pages.py       # minutes on one core

`tables.py` says which, and which flags make them shorter. `configs/demo.py` has the sizes of `smoke` there, on drawn
shapes, with the demo's four experts; `demo`, where a command names that, is the model in the package.
"""

import os
import resource
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from tests.commands import on_devices
from tests.documents import blocks
from tests.documents.blocks import ROOT
from tests.documents.tables import RUN, is_run_here, row
from tests.evaluation.study.conftest import write_images, write_prompts

pytestmark = [pytest.mark.slow, pytest.mark.hosts]
TRAINED = "README.md"
"""The page whose data and runs the others begin with."""
SMALL = """from ernie_vilg_jax.configs import demo


def get_config(argument=None):
    config = demo.get_config(f"{argument},smoke" if argument else "smoke")
    config.experts.n = 4
    return config
"""
DEMO = ROOT / "ernie_vilg_jax/assets/demo"
DEVICES = {"docs/sampling.md": 4}
BEFORE = {
    "docs/data.md": "from ml_collections import ConfigDict\nc = ConfigDict({'data': {'sources': ()}})",
    "docs/evaluation.md": "import ernie_vilg_jax\npipe = ernie_vilg_jax.load()",
    "docs/evaluation_binding.md": "import numpy as np\nimage = np.zeros((64, 64, 3), np.uint8)",
    "docs/samplers.md": "from dataclasses import dataclass\nimport ernie_vilg_jax\n"
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


def packaged(folder: Path) -> None:
    shutil.rmtree(folder / "runs/demo")
    (folder / "runs/demo").symlink_to(DEMO)


def notebooks(folder: Path) -> None:
    shutil.copytree(ROOT / "colab", folder / "colab")


INPUTS: dict[str, tuple[Callable[[Path], None], ...]] = {
    "docs/colab.md": (notebooks,),
    "docs/data.md": (tars, parquet),
    "docs/finetuning.md": (first,),
    "docs/human_study.md": (study,),
    "docs/sampling.md": (packaged,),
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


def run(page: str, folder: Path) -> None:
    """All that the page says to type, the commands first."""
    python = [block for block in blocks.blocks() if block.page == page and block.language == "python"]
    code = "\n\n".join(block.text for block in python if is_run_here(block.name) and ">>>" not in block.text)
    (folder / "page.py").write_text(f"{BEFORE.get(page, '')}\n{code}\n")
    lines = [
        "\n".join((*one.before, f"{one.text} {RUN[str(row(one.name))]}"))
        for one in blocks.commands()
        if one.page == page and is_run_here(one.name)
    ]
    environment = {
        **os.environ,
        **on_devices(DEVICES.get(page, 1)),
        "PATH": f"{folder}/.venv/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    for line in [*lines, "python page.py"] if code else lines:
        begun = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, text=True, capture_output=True)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime
        print(f"{seconds:6.1f} processor seconds  {line}", flush=True)
        assert done.returncode == 0, f"{page}: {line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        assert "Traceback" not in done.stderr, done.stderr[-4000:]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = place(tmp_path_factory.mktemp("documents") / "clone", TRAINED, None)
    run(TRAINED, folder)
    return folder


def test_what_the_readme_says_leads_to_images(trained: Path) -> None:
    for path in ("samples/grid.png", "panda.png", "runs/mine/grid.png"):
        assert Image.open(trained / path).width > 10
    assert (trained / "exported/mine").is_dir() and (trained / "runs/demo/experts/checkpoints/8").is_dir()


PAGES = sorted({one.page for one in (*blocks.commands(), *blocks.blocks()) if is_run_here(one.name)} - {TRAINED})


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_says_can_be_typed(page: str, trained: Path, tmp_path: Path) -> None:
    run(page, place(tmp_path / "clone", page, trained))
