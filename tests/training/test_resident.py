"""Batches that are drawn on the devices: the records and captions of the data, each once in an epoch."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax.data.loader import all_examples
from ernie_vilg_jax.data.tokenizers import load_tokenizer
from ernie_vilg_jax.data.whole import read_whole
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sharding.mesh import make_mesh
from ernie_vilg_jax.training.resident import Resident, load_resident
from tests.tiny_run import MakeConfig, train

SIZE = 24


@pytest.fixture(scope="module")
def config(make_config: MakeConfig) -> ConfigDict:
    return make_config("base", **{"data.resident": True})


@pytest.fixture(scope="module")
def mesh(config: ConfigDict) -> Mesh:
    return make_mesh(config.mesh)


@pytest.fixture(scope="module")
def resident(config: ConfigDict, mesh: Mesh) -> Resident:
    """The images themselves, as for an autoencoder, over eight devices."""
    with jax.set_mesh(mesh):
        return load_resident(config, load_tokenizer(config), mesh)


def test_a_batch_holds_the_images_and_captions_of_its_records(
    resident: Resident, config: ConfigDict, mesh: Mesh
) -> None:
    tokenizer = load_tokenizer(config)
    examples = all_examples(config, tokenizer, "train")
    with jax.set_mesh(mesh):
        batch, records = next(resident.batches(SIZE, SIZE, range(SIZE)))
    assert len(batch["image"].sharding.device_set) == 8 and batch["image"].addressable_shards[0].data.shape[0] == 3
    dropped = 0
    for row, index in enumerate(records):
        np.testing.assert_array_equal(batch["image"][row], examples[int(index)]["image"])
        captions = examples.example.source[int(index)].captions
        known = [tokenizer.encode(text)[0].tolist() for texts in captions.values() for text in texts]
        tokens = batch["tokens"][row].tolist()
        dropped += tokens == tokenizer.encode("")[0].tolist()
        assert tokens in [*known, tokenizer.encode("")[0].tolist()]
        assert batch["token_mask"][row].sum() == sum(number != tokenizer.pad_id for number in tokens)
    assert dropped < SIZE / 2


def test_every_record_comes_once_in_an_epoch(resident: Resident) -> None:
    total = len(resident.counts)
    numbers = [resident.numbers(start, 7)[0] for start in range(0, 7 * total, 7)]
    stream = np.concatenate(numbers).reshape(7, total)
    assert (np.sort(stream) == np.arange(total)).all() and not (stream[0] == stream[1]).all()


def test_captions_are_drawn_as_the_loader_draws_them(config: ConfigDict, mesh: Mesh) -> None:
    """A tenth is dropped; half of the rest is Chinese where there is both; each of a language is as likely."""
    counts = np.asarray([[2, 3], [0, 4], [1, 0]])
    owner = [record for record, both in enumerate(counts) for _ in range(both.sum())]
    drawn = Resident(config, mesh, {}, {}, counts)
    columns = zip(*(drawn.numbers(start, 3000) for start in range(0, 60_000, 3000)), strict=True)
    records, captions = map(np.concatenate, columns)
    kept = captions > 0
    assert np.mean(~kept) == pytest.approx(config.train.caption_dropout, abs=0.01)
    assert (np.asarray(owner)[captions[kept] - 1] == records[kept]).all()
    shares = np.bincount(captions[kept], minlength=11)[1:] / kept.sum() * 3
    assert shares == pytest.approx([1 / 4, 1 / 4, *[1 / 6] * 3, *[1 / 4] * 4, 1], abs=0.02)
    config = config.copy_and_resolve_references()
    config.data.language = "zh"
    with pytest.raises(UserError, match=r"1 records have no caption in --config\.data\.language=zh"):
        Resident(config, mesh, {}, {}, counts)


def test_worker_processes_read_the_same(config: ConfigDict) -> None:
    maker = all_examples(config, load_tokenizer(config), "train").example
    for one, two in zip(read_whole(maker, 0), read_whole(maker, 2), strict=True):
        for mine, theirs in zip(one, two, strict=True):
            np.testing.assert_array_equal(mine, theirs)


class Dying:
    """Kills the process that unpickles it."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


def test_a_reading_process_that_dies_is_one_sentence(config: ConfigDict) -> None:
    maker = all_examples(config, load_tokenizer(config), "train").example
    dying: Any = dataclasses.replace(maker, viewer=Dying())
    with pytest.raises(UserError, match=r"died.*smaller --config\.data\.workers than 2"):
        next(read_whole(dying, 2))


@pytest.mark.slow
@pytest.mark.parametrize(
    "phase", [pytest.param("autoencoder", marks=pytest.mark.hosts), pytest.param("base", marks=pytest.mark.proofs)]
)
def test_training_resumes_exactly(phase: str, make_config: MakeConfig, whole_run: Path, tmp_path: Path) -> None:
    if phase == "base":
        (tmp_path / "autoencoder").symlink_to(whole_run / "autoencoder")
    config = make_config(phase, **{"data.resident": True, f"phases.{phase}.steps": 4, "train.checkpoint_every": 2})
    whole = train(config, tmp_path)
    shutil.rmtree(tmp_path / phase / "checkpoints" / "4")
    halves = train(config, tmp_path)
    lines = (tmp_path / phase / "metrics.jsonl").read_text().splitlines()
    assert [line["step"] for line in map(json.loads, lines) if "train/loss" in line] == [2, 4, 4], "it went on from 2"
    for one, two in zip(jax.tree.leaves(whole), jax.tree.leaves(halves), strict=True):
        if not jax.numpy.issubdtype(one.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"knowledge.enabled": True}, "knowledge.enabled=True"),
        ({"data.crop": "random"}, "data.crop='random'"),
        ({"data.sizes": ((16, 16), (24, 16))}, r"data.sizes=\(\(16, 16\), \(24, 16\)\)"),
        ({"data.weights": ConfigDict({"scenes": 2.0})}, "data.weights"),
    ],
)
def test_what_changes_from_epoch_to_epoch_is_refused(
    changes: dict[str, Any], field: str, make_config: MakeConfig, mesh: Mesh
) -> None:
    config = make_config("base", **{"data.resident": True})
    for name, value in changes.items():
        section, last = name.split(".")
        with config.unlocked(), config.ignore_type():
            config[section][last] = value
    with pytest.raises(UserError, match=f"--config.data.resident .* does not go with config.{field}"):
        load_resident(config, load_tokenizer(config), mesh)
