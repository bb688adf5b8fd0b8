"""The notebooks: their two forms agree, the install cell fits each machine, and all cells run."""

import base64
import io
import json
import os
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from tests.commands import on_devices

COLAB = Path(__file__).parents[1] / "colab"
NAMES = sorted(file.stem for file in COLAB.glob("*.py"))


def read(name: str) -> Any:
    return nbformat.read(COLAB / f"{name}.ipynb", as_version=4)


def install_cell(name: str) -> str:
    return next(cell.source for cell in read(name).cells if cell.cell_type == "code")


def test_all_notebooks_are_pairs() -> None:
    assert NAMES == ["sample", "train_your_own"]
    assert sorted(file.stem for file in COLAB.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_agree_and_hold_no_outputs(name: str) -> None:
    """`jupytext --sync colab/*.py` keeps the two in sync."""
    notebook, script = read(name), jupytext.read(COLAB / f"{name}.py")
    params = lambda one: [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in one.cells]  # noqa: E731
    assert params(notebook) == params(script)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)


def test_notebooks_install_alike() -> None:
    assert len({install_cell(name) for name in NAMES}) == 1


def run_install_cell(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], repository: str = ""
) -> list[list[str]]:
    """Runs the install cell with `versions` installed; returns the commands that it would have run."""
    commands: list[list[str]] = []

    def version(package: str) -> str:
        if package not in versions:
            raise metadata.PackageNotFoundError(package)
        return versions[package]

    def pip(command: list[str], check: bool) -> None:
        assert check
        commands.append(command)
        versions.setdefault("ernie_vilg_jax", "0.1.0")
        versions.update(jax="99.0.0", flax="99.0.0", numpy="99.0.0")

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(subprocess, "run", pip)
    source = install_cell("sample").replace('REPOSITORY = ""', f"REPOSITORY = {repository!r}")
    exec(compile(source, "install", "exec"), {})
    return commands


def test_nothing_is_installed_if_the_package_and_a_recent_jax_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_install_cell(monkeypatch, {"ernie_vilg_jax": "0.1.0", "jax": "0.10.2"}) == []


@pytest.mark.parametrize("accelerator", ["", "[cuda]", "[tpu]"])
@pytest.mark.parametrize("versions", [{"jax": "0.7.2"}, {"ernie_vilg_jax": "0.1.0", "jax": "0.7.2"}])
def test_install_takes_the_extra_of_the_accelerator(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, accelerator: str, versions: dict[str, str]
) -> None:
    for module in ("jax", "flax", "numpy"):  # as in a fresh runtime
        monkeypatch.delitem(__import__("sys").modules, module, raising=False)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi" if accelerator == "[cuda]" else None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if accelerator == "[tpu]" else None)
    monkeypatch.chdir(tmp_path)
    address = "https://example.org/ernie"
    commands = run_install_cell(monkeypatch, dict(versions), address)
    assert [command[-1] for command in commands] == [f"ernie_vilg_jax{accelerator} @ git+{address}"]


def test_install_from_the_clone_that_the_notebook_lies_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("jax", "flax", "numpy"):
        monkeypatch.delitem(__import__("sys").modules, module, raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.chdir(COLAB)
    assert [command[-1] for command in run_install_cell(monkeypatch, {})] == [str(COLAB.parent)]


def test_install_requires_an_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="address of the repository"):
        run_install_cell(monkeypatch, {})


def test_install_requires_a_restart_if_an_older_numpy_was_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(COLAB)
    assert np.__version__ != "99.0.0"
    with pytest.raises(SystemExit, match="Restart session"):
        run_install_cell(monkeypatch, {"jax": "0.7.2"})


def execute(name: str, folder: Path, **settings: Any) -> Any:
    """The notebook, run in `folder` with other values in its cell of parameters."""
    notebook = read(name)
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    known = re.findall(r"^(\w+) = ", notebook.cells[place].source, re.MULTILINE)
    assert set(settings) <= set(known)
    lines = [f"{name} = {value!r}" for name, value in settings.items()]
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell("\n".join(lines)))
    client = NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    return client.execute(env={**os.environ, **on_devices(1), "IPYTHONDIR": str(folder / "ipython")})


def pictures(notebook: Any) -> list[np.ndarray]:
    """All images that the cells show, [H, W, 3] each, in order."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    found = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")) for png in found]


@pytest.mark.documents
@pytest.mark.slow
def test_sampling_notebook(tmp_path: Path) -> None:
    done = execute(
        "sample", tmp_path, PROMPTS="一只熊猫；a red apple", STYLE="flat style", PICTURES=1, STEPS=4, PREVIEWS=3
    )  # fmt: skip
    painted, on_the_way, chart, attention = pictures(done)
    for picture in (painted, on_the_way, attention):
        assert picture.std() > 10
    # Four experts, one step each: each has one filled box in its own colour.
    coloured = chart[(chart.max(-1) - chart.min(-1)) > 60]
    assert len({tuple(pixel) for pixel in coloured}) == 4
    saved = [Image.open(file).info for file in sorted((tmp_path / "pictures").glob("*.png"))]
    assert [info["prompt"] for info in saved] == ["一只熊猫，扁平风格", "a red apple, flat style"]
    assert all(info["steps"] == "4" for info in saved)


@pytest.mark.hosts
@pytest.mark.slow
def test_training_notebook(tmp_path: Path) -> None:
    done = execute(
        "train_your_own", tmp_path, PROMPTS="a red monster; 一个蓝色的怪物", STEPS=2, BATCH=4, SAMPLE_STEPS=4
    )  # fmt: skip
    preview, _, samples = pictures(done)
    assert preview.std() > 10
    # The column of each prompt holds its image before and after, and they differ.
    half = samples.shape[0] // 2
    assert samples.std() > 10 and np.abs(samples[:half].astype(int) - samples[-half:]).mean() > 1
    run = tmp_path / "my_model" / "run" / "experts"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    # A U-Net that has learned nothing has a loss of 1.
    assert losses[0] < 0.5 and np.isfinite(losses).all()
    assert (run / "checkpoints" / "2").is_dir()
    printed = "".join(output.text for cell in done.cells for output in cell.get("outputs", []) if "text" in output)
    assert "monster (n)" in printed and "怪物 (n)" in printed
