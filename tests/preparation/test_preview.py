"""preview.png shows images of every shard, cropped as by the loader, with captions."""

from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax.preparation import companions
from ernie_vilg_jax.preparation.prepare import prepare


def test_images_of_all_shards_upright_on_white_and_not_stretched(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for number in range(12):
        image = Image.new("RGBA", (60, 30), (255, 0, 0, 255 if number % 2 else 0))
        image.putpixel((0, 0), (number, 0, 0, 255))  # no two alike
        image.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"{'red' if number % 2 else 'nothing'} {number}")
    seen: list[tuple[list[Image.Image], list[str]]] = []
    grid = companions.labelled_grid
    monkeypatch.setattr(
        companions,
        "labelled_grid",
        lambda images, labels, **how: (seen.append((images, labels)), grid(images, labels, **how))[1],
    )
    config.data.sources = (ConfigDict({"name": "folder", "path": str(folder)}),)
    config.data.num_shards, config.data.holdout_fraction = 3, 0.0
    prepare(config, tmp_path / "out")
    ((images, labels),) = seen
    assert sorted(labels, key=lambda label: int(label.split()[1])) == [
        f"{'red' if number % 2 else 'nothing'} {number}" for number in range(12)
    ]
    for image, label in zip(images, labels, strict=True):
        middle = np.asarray(image)[48, 48]
        assert middle.tolist() == ([255, 0, 0] if "red" in label else [255, 255, 255])
    assert Image.open(tmp_path / "out" / "preview.png").width > 700
