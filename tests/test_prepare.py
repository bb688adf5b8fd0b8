"""`python -m ernie_vilg_jax.prepare`, as users call it."""

import io
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.commands import python_m

CONFIG = """
from ml_collections import ConfigDict
from ernie_vilg_jax.config import default_config

def get_config(argument=None):
    c = default_config()
    c.model.image_size = 16
    c.knowledge.enabled = False
    c.tokenizer.kind, c.tokenizer.vocab_size, c.tokenizer.max_length, c.tokenizer.path = "sentencepiece", 400, 16, ""
    c.data.sources = (ConfigDict(dict(name="scenes", count=30)),)
    c.data.holdout_fraction, c.data.num_shards = 0.05, 2
    return c
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "small.py").write_text(CONFIG)
    return tmp_path / "small.py"


def prepare(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*python_m(), "ernie_vilg_jax.prepare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_prepare_writes_a_directory_and_names_the_preview(config: Path, tmp_path: Path):
    done = prepare(f"--config={config}", f"--output={tmp_path / 'out'}", "--config.data.num_shards=1")
    assert done.returncode == 0, done.stderr
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {
        "LICENCES.md",
        "holdout-00000-of-00001.array_record",
        "manifest.json",
        "preview.png",
        "tokenizer",
        "train-00000-of-00001.array_record",
    }
    assert "preview.png" in done.stderr and "records made in" in done.stderr


def test_own_images_in_one_command(config: Path, tmp_path: Path):
    from ernie_vilg_jax.data.loader import make_loader
    from ernie_vilg_jax.data.tokenizers import load_tokenizer

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(6):
        buffer = io.BytesIO()
        Image.new("RGB", (30, 20), (40 * number, 0, 0)).save(buffer, "PNG")
        (pictures / f"{number}.png").write_bytes(buffer.getvalue())
        (pictures / f"{number}.txt").write_text(f"第{number}张图\npicture {number}", encoding="utf-8")
    done = prepare(f"--config={config}", f"--output={tmp_path / 'out'}", f"--folder={pictures}")
    assert done.returncode == 0, done.stderr
    scope: dict = {}
    exec(CONFIG, scope)
    own = scope["get_config"]()
    own.data.path = str(tmp_path / "out")
    batch = next(iter(make_loader(own, load_tokenizer(own), batch_size=4, seed=0)))
    assert batch["image"].shape == (4, 16, 16, 3)


def test_mistakes_end_in_one_sentence(config: Path, tmp_path: Path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "1.txt").write_text("no picture")
    done = prepare(f"--config={config}", f"--output={tmp_path / 'out'}", f"--folder={pictures}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ") and "holds no images" in done.stderr
    assert "Traceback" not in done.stderr
    done = prepare(f"--config={config}", f"--output={tmp_path / 'out'}", "--folder=a", "--tars=b")
    assert done.returncode == 1 and "--folder and --tars exclude each other" in done.stderr
