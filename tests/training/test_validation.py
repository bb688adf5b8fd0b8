"""Validation and previews of a model that is trained on several sizes; without a program."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax.data.loader import fixed_examples
from ernie_vilg_jax.data.records import open_split
from ernie_vilg_jax.data.tokenizers import load_tokenizer
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.images import decode_image, fitted
from ernie_vilg_jax.model import Model, build_model
from ernie_vilg_jax.models.autoencoder import Posterior
from ernie_vilg_jax.sharding.mesh import make_mesh
from ernie_vilg_jax.training import init
from ernie_vilg_jax.training.metrics import MetricWriter
from ernie_vilg_jax.training.validation import Validation, Validator, make_validation
from tests.encoding.pictures import SIZES, images, make_config, model

__all__ = ["images", "model"]
COUNT = 30


def validator(config: ConfigDict, model: Model) -> Validator:
    mesh = make_mesh({"data": 1}, jax.devices()[:1])
    return Validator(config, model, mesh, Stages((), model.schedule.num_timesteps), (0,))


def held_out(config: ConfigDict, model: Model) -> Validation:
    tokenizer = load_tokenizer(config)
    examples = fixed_examples(config, tokenizer, "train", COUNT, 0)
    return make_validation(config, model, tokenizer, make_mesh({"data": 1}, jax.devices()[:1]), examples)


@pytest.mark.parametrize("sizes", [(), ((24, 16),), SIZES], ids=str)
def test_each_image_is_validated_once_in_the_size_that_training_gives_it(
    sizes: tuple[tuple[int, int], ...], images: Path, model: Model
) -> None:
    config = make_config(images, **{"data.sizes": sizes})
    source = open_split(str(images), "train", verify=False)
    chosen = fixed_examples(config, load_tokenizer(config), "train", COUNT, 0).chosen
    expected: dict[tuple[int, int], list[np.ndarray]] = {}
    for index in chosen:
        image = decode_image(source[index].image)
        aspect = lambda size, image=image: abs(np.log(size[1] / size[0] * image.height / image.width))  # noqa: E731
        size = min(sizes or ((16, 16),), key=aspect)
        expected.setdefault((size[0], size[1]), []).append(np.asarray(fitted(image, *size)))
    found = held_out(config, model)
    seen: dict[tuple[int, int], np.ndarray] = {}
    for group in (found, *found.others):
        pieces = [np.asarray(piece["image"])[np.asarray(piece["valid"])] for piece in group.pieces.values()]
        seen[group.size] = np.concatenate(pieces)
        assert group.count == len(seen[group.size])
    assert seen.keys() == expected.keys() and sum(map(len, seen.values())) == COUNT
    for size, whole in expected.items():
        np.testing.assert_array_equal(seen[size], whole)


def test_cached_latents_are_those_of_the_only_size(images: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    class Encoder:
        def __init__(self, model: Model, mesh: Any) -> None:
            pass

        def posterior(self, autoencoder: Any, batch: Any) -> Posterior:
            seen.append(batch.shape[1:3])
            return Posterior(*[np.zeros((len(batch), 6, 4, 4))] * 2)  # type: ignore[arg-type]

    monkeypatch.setattr(init, "Encoder", Encoder)
    config = make_config(images, **{"data.sizes": ((24, 16),), "data.cache_latents": True})
    mesh = make_mesh({"data": 1}, jax.devices()[:1])
    found = init._all_posteriors(config, model, load_tokenizer(config), {}, mesh)
    assert set(seen) == {(24, 16)}
    assert len(found.mean) == len(open_split(str(images), "train", verify=False))


def test_an_autoencoder_is_validated_on_squares(images: Path, model: Model) -> None:
    config = make_config(images, **{"data.sizes": SIZES})
    config.phase = "autoencoder"
    found = held_out(config, model)
    assert (found.size, found.count, found.others) == ((16, 16), COUNT, ())


def test_the_loss_is_the_mean_over_all_images_and_each_size_has_its_own(images: Path, model: Model) -> None:
    config = make_config(images, **{"data.sizes": SIZES})
    found, made = held_out(config, model), validator(config, model)
    weight = {(16, 16): 1.0, (16, 24): 2.0, (24, 16): 4.0}

    def sums(state: Any, batch: Mapping[str, Any], start: Any, count: int) -> np.ndarray:
        """In stage k, each image has its size's weight and k."""
        each = weight[batch["image"].shape[1:3]]
        return np.array([(each + stage) * np.sum(batch["valid"]) for stage in range(model.stages.n)])

    made.__dict__["losses_of"] = sums
    losses = made.losses({}, found)
    counts = {group.size: group.count for group in (found, *found.others)}
    assert len(counts) == 3
    mean = sum(weight[size] * count for size, count in counts.items()) / COUNT
    for stage in range(model.stages.n):
        assert losses[f"loss_stage_{stage:02d}"] == pytest.approx(mean + stage)
    spread = losses["loss"] - mean
    assert 0 < spread < model.stages.n, "the mean of the stages, by their lengths"
    for size in counts:
        assert losses[f"loss_{size}"] == pytest.approx(weight[size] + spread)
    assert not any("x" in name for name in made.losses({}, found._replace(others=())))


def test_previews_show_every_prompt_in_every_size(images: Path, model: Model, tmp_path: Path) -> None:
    config = make_config(images, **{"data.sizes": SIZES})
    config.train.preview_prompts = ("a", "b")
    made = validator(config, build_model(config))
    made.__dict__["sample"] = lambda state, prompts, size: np.full((2, *size, 3), -1.0)
    shown, labels = made.preview({}, Validation(0, {}, {}))
    assert [image.shape[:2] for image in shown] == [size for size in SIZES for _ in range(2)]
    assert labels == ["a", "b"] * 3
    with MetricWriter(tmp_path, True, ()) as writer:
        writer.images(3, shown, labels)
    with Image.open(tmp_path / "previews" / "00000003.png") as grid:
        assert grid.width > 2 * 160
