"""Helpers of the data tests."""

import io
from typing import Any

from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax.config import default_config


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
