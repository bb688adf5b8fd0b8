"""Prepared pictures of several aspects, an autoencoder of random weights, and what encodes the ones with the other."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs.demo import get_config
from ernie_vilg_jax.encoding.encode import encode
from ernie_vilg_jax.interop.components import write_component
from ernie_vilg_jax.model import Model, build_model
from ernie_vilg_jax.preparation.prepare import prepare
from tests.random_model import filled

SIZES = ((16, 16), (16, 24), (24, 16))
PIXELS = [*[(48, 32)] * 12, *[(32, 48)] * 8, *[(41, 40)] * 12, *[(12, 14)] * 4]
"""Width and height of the images."""
BOX = [0.25, 0.0, 0.75, 0.5]


def make_config(path: Path | str = "", **changes: Any) -> ConfigDict:
    config = get_config("base,smoke")
    config.data.path, config.data.sources, config.data.language = str(path), (), "en"
    config.model.text_encoder.width = config.model.unet.base_channels = config.model.unet.head_channels = 8
    config.update_from_flattened_dict({"data.holdout_fraction": 0.1, "seed": 3, **changes})
    return config


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared images of several aspects, each with a box."""
    folder, rng, rows = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0), []
    for number, (width, height) in enumerate(PIXELS):
        picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        kind = "jpg" if number % 2 else "png"
        picture.save(folder / f"{number}.{kind}")
        boxes = [{"name": "thing", "box": BOX}]
        rows.append({"file": f"{number}.{kind}", "en": [f"picture {number}", f"image {number}"], "objects": boxes})
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = make_config()
    config.data.sources = (ConfigDict({"name": "folder", "path": str(folder)}),)
    path = tmp_path_factory.mktemp("prepared") / "images"
    prepare(config, path, own_data=True)
    return path


@pytest.fixture(scope="module")
def model() -> Model:
    return build_model(make_config())


def component(folder: Path, model: Model, seed: int) -> Path:
    """A frozen autoencoder of random weights, as `checkpoint import_autoencoder` writes one."""
    params = filled(model.abstract_autoencoder()["params"], seed, 0.2)
    channels = model.autoencoder.latent_channels
    place = {"mean": np.full(channels, 0.1, np.float32), "std": np.full(channels, 0.5, np.float32)}
    write_component(folder / f"autoencoder_{seed}", "autoencoder", {"params": params, **place}, make_config())  # type: ignore[arg-type]
    return folder / f"autoencoder_{seed}"


@pytest.fixture(scope="module")
def autoencoder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return component(tmp_path_factory.mktemp("parts"), model, 1)


def run(config: ConfigDict, source: Path, output: Path, autoencoder: Path, count: int = 1, **options: Any) -> Path:
    encode(config, str(source), str(output), autoencoder, devices=jax.devices()[:count], **options)
    return output


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
