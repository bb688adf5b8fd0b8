"""Images in a bucket are encoded into another folder of it; training reads the latents from there."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from ernie_vilg_jax.data.loader import make_loader
from ernie_vilg_jax.data.manifests import read_manifest
from ernie_vilg_jax.data.tokenizers import load_tokenizer
from ernie_vilg_jax.encoding.encode import encode
from ernie_vilg_jax.encoding.shard import ShardEncoder
from ernie_vilg_jax.errors import UserError
from tests.buckets import contents_of, upload
from tests.encoding.pictures import make_config, run
from tests.preparation.folders import contents

IMAGES, LATENTS = "gs://bucket/images", "gs://bucket/latents"


def test_encode_reads_and_writes_a_bucket(
    gcs: Any, images: Path, autoencoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(gcs, images, IMAGES)
    config, one = make_config(), jax.devices()[:1]
    here = run(config, images, tmp_path / "latents", autoencoder)

    # The process dies when its second shard is half done, and starts again.
    written, write = [], ShardEncoder.write

    def dies(self: ShardEncoder, name: str, *rest: Any) -> dict[str, Any]:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(name)
        return write(self, name, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ShardEncoder, "write", dies)
        encode(config, IMAGES, LATENTS, autoencoder, devices=one)
    assert not gcs.exists(f"{LATENTS}/manifest.json")
    first = gcs.info(f"{LATENTS}/{written[0]}")["generation"]
    manifest = encode(config, IMAGES, LATENTS, autoencoder, devices=one)
    assert gcs.info(f"{LATENTS}/{written[0]}")["generation"] == first
    assert contents_of(gcs, LATENTS) == contents(here)
    assert read_manifest(LATENTS) == read_manifest(here)

    found = []
    for path in (str(here), LATENTS):
        settings = make_config(path)
        batches = iter(make_loader(settings, load_tokenizer(settings), batch_size=8, seed=3))
        found.append(next(batches))
    assert {"mean", "log_variance"} < found[0].keys() == found[1].keys()
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])

    shard = manifest["splits"]["train"]["shards"][0]["file"]
    gcs.pipe_file(f"{IMAGES}/{shard}", gcs.cat_file(f"{IMAGES}/{shard}")[:-1] + b"x")
    with pytest.raises(UserError, match=rf"shard {shard} of --input={IMAGES} is missing or damaged"):
        encode(config, IMAGES, "gs://bucket/others", autoencoder, devices=one)
    with pytest.raises(UserError, match=r"--output=gs://bucket/images/x is --input or lies inside it"):
        encode(config, IMAGES, f"{IMAGES}/x", autoencoder, devices=one)


def test_a_bucket_without_data_is_one_sentence(gcs: Any, autoencoder: Path) -> None:
    with pytest.raises(UserError, match=r"--input=gs://bucket/nothing holds no manifest\.json"):
        encode(make_config(), "gs://bucket/nothing", LATENTS, autoencoder)
