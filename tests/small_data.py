"""Small prepared data of drawn shapes, shared by the tests of data, preparation and annotation; no network."""

import io
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax.annotation.annotate import annotate
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.loader import Batch, fixed_examples
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.preparation.prepare import prepare
from ernie_vilg_jax.preparation.sources import Source
from ernie_vilg_jax.preparation.sources.findings import Findings


def make_config(**data: Any) -> ConfigDict:
    config = default_config()
    config.model.image_size = 16
    config.model.autoencoder.channels = (16,)
    config.model.autoencoder.patch_size = 4
    config.knowledge.enabled = False
    config.tokenizer = ConfigDict({"kind": "sentencepiece", "vocab_size": 400, "max_length": 24, "path": ""})
    config.train.caption_dropout = 0.0
    config.data = ConfigDict(
        {
            "path": "",
            "sources": (ConfigDict({"name": "scenes", "count": 100, "simple": True}),),
            "holdout_fraction": 0.05,
            "num_shards": 3,
            "workers": 0,
            "language": "both",
            "weights": ConfigDict(),
        }
    )
    config.data.update(data)
    return config


def picture(colour: str = "red", size: tuple[int, int] = (20, 12), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def records_of(source: Source) -> list[Record]:
    """All records, read as `prepare` does."""
    findings = Findings()
    records = [record for part in source.parts() for record in source.read(part, findings)]
    if place := source.place():
        findings.report(place)
    return records


@pytest.fixture
def config() -> ConfigDict:
    return make_config()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole prepared directory; tests must not change it."""
    path = tmp_path_factory.mktemp("prepared")
    prepare(make_config(), path)
    return path


@pytest.fixture
def ready(prepared: Path) -> ConfigDict:
    """A config whose data is prepared."""
    return make_config(path=str(prepared))


@pytest.fixture(scope="session")
def annotated(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared directory after annotation with the taggers of both languages; tests must not change it."""
    path = tmp_path_factory.mktemp("annotated") / "data"
    annotate(str(prepared), str(path))
    return path


def fixed_batch(config: ConfigDict, tokenizer: Tokenizer, split: str, n: int, seed: int) -> Batch:
    """The fixed examples in one batch."""
    examples = fixed_examples(config, tokenizer, split, n, seed)
    (batch,) = examples.batches(len(examples))
    assert batch.pop("valid").all()
    return batch


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS dataset of three images, built without TensorFlow."""
    import tensorflow_datasets as tfds

    class Toy(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            features = {
                "image": tfds.features.Image(),
                "caption": tfds.features.Text(),
                "more": tfds.features.Sequence(tfds.features.Text()),
                "label": tfds.features.ClassLabel(names=["x", "y"]),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager: Any) -> Any:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Any:
            for number, (colour, caption) in enumerate([("red", "a red one"), ("blue", "蓝色的"), ("green", "绿色")]):
                image = io.BytesIO(picture(colour))
                yield number, {"image": image, "caption": caption, "more": [f"more {number}"], "label": number % 2}

    path = tmp_path_factory.mktemp("tfds")
    Toy(data_dir=str(path), file_format="array_record").download_and_prepare()
    return path / "toy"
