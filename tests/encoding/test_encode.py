"""Encoded data hold what training would have encoded itself: crops, boxes, text; whatever interrupts the work."""

import dataclasses
import itertools
import shutil
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.annotation.annotate import annotate
from ernie_vilg_jax.data import loader
from ernie_vilg_jax.data.latents import Latents
from ernie_vilg_jax.data.loader import make_loader
from ernie_vilg_jax.data.manifests import read_manifest
from ernie_vilg_jax.data.records import Record, open_split
from ernie_vilg_jax.data.sizes import Size
from ernie_vilg_jax.data.tokenizers import load_tokenizer
from ernie_vilg_jax.encoding import encode as encoding
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import cut, decode_image
from ernie_vilg_jax.knowledge.loss_weights import crop_boxes, weight_map
from ernie_vilg_jax.model import Model, build_model
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.sharding.mesh import make_mesh
from ernie_vilg_jax.training import step
from ernie_vilg_jax.training.diffusion import DiffusionTask
from ernie_vilg_jax.training.encoded import check_autoencoder
from ernie_vilg_jax.training.validation import Validation
from tests.encoding.pictures import BOX, SIZES, component, contents, make_config, run
from tests.random_model import filled


@pytest.fixture(scope="module")
def encoder(model: Model) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The moments of the posterior over the latents of one image [H, W, 3]."""
    params = filled(model.abstract_autoencoder()["params"], 1, 0.2)
    jitted = jax.jit(lambda image: model.posterior({"params": params}, image[None]))
    return lambda image: tuple(np.asarray(leaf)[0] for leaf in jitted(image))


@pytest.fixture(scope="module")
def squares(images: Path, autoencoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Central squares, in float32."""
    output = tmp_path_factory.mktemp("encoded") / "squares"
    return run(make_config(), images, output, autoencoder, dtype="float32")


@pytest.fixture(scope="module")
def shapes(images: Path, autoencoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three random crops of three sizes, without the smallest images, in bfloat16."""
    config = make_config(**{"data.sizes": SIZES, "data.crop": "random", "data.smallest_side": 16})
    return run(config, images, tmp_path_factory.mktemp("encoded") / "shapes", autoencoder, crops=3)


def records(path: Path, split: str = "train") -> dict[str, Record]:
    source = open_split(path, split)
    return {source[index].id: source[index] for index in range(len(source))}


def test_latents_are_those_of_the_images_that_the_loader_cuts(images: Path, squares: Path, encoder: Any) -> None:
    config = make_config(images)
    before, after = records(images), records(squares)
    assert before.keys() == after.keys() and len(before) > 25
    pixels = {}
    source = open_split(images, "train")
    for batch in make_loader(config, load_tokenizer(config), batch_size=1, seed=0, epochs=1):
        pixels[source[int(batch["index"][0])].id] = batch["image"][0]
    for name, record in after.items():
        latents = Latents.unpack(record.latents[0])
        for found, expected in zip((latents.mean, latents.log_variance), encoder(pixels[name]), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
        assert dataclasses.replace(record, image=before[name].image, latents=[]) == before[name]


def test_no_image_is_left_except_those_for_validation(images: Path, squares: Path) -> None:
    assert {record.image for record in records(squares).values()} == {b""}
    assert records(squares, "holdout") == records(images, "holdout")
    kept = {file.name for file in images.rglob("*")} - {"manifest.json"}
    assert kept <= {file.name for file in squares.rglob("*")}


@pytest.mark.parametrize("name", ["squares", "shapes"])
def test_the_bytes_are_the_same_on_more_devices_and_for_every_run(
    name: str, images: Path, autoencoder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first: Path = request.getfixturevalue(name)
    config, options = make_config(), {"dtype": "float32"}
    if name == "shapes":
        config = make_config(**{"data.sizes": SIZES, "data.crop": "random", "data.smallest_side": 16})
        options = {"crops": 3}
    second = run(config, images, tmp_path / "again", autoencoder, count=2 if name == "squares" else 1, **options)
    assert contents(second) == contents(first)


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    images: Path, squares: Path, autoencoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write = [], encoding.ShardEncoder.write

    def dies(self: Any, name: str, file: Path, target: Path, progress: Any) -> Any:
        if len(written) == 1:
            target.write_bytes(b"half a shard")
            raise KeyboardInterrupt
        written.append(name)
        return write(self, name, file, target, progress)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(encoding.ShardEncoder, "write", dies)
        run(make_config(), images, tmp_path / "out", autoencoder, dtype="float32")
    kept = (tmp_path / "out" / written[0]).stat().st_ino
    assert not (tmp_path / "out" / "manifest.json").exists()
    run(make_config(), images, tmp_path / "out", autoencoder, dtype="float32")
    assert contents(tmp_path / "out") == contents(squares)
    assert (tmp_path / "out" / written[0]).stat().st_ino == kept
    finished = (tmp_path / "out" / "manifest.json").stat().st_ino
    run(make_config(), images, tmp_path / "out", autoencoder, dtype="float32")
    assert (tmp_path / "out" / "manifest.json").stat().st_ino == finished  # nothing to do
    # Damaged afterwards: only that shard is made again.
    (tmp_path / "out" / written[0]).write_bytes(b"damage")
    run(make_config(), images, tmp_path / "out", autoencoder, dtype="float32")
    assert contents(tmp_path / "out") == contents(squares)


def test_random_crops_are_those_that_the_records_state(images: Path, shapes: Path, encoder: Any) -> None:
    before, crops = records(images), set()
    for name, record in list(records(shapes).items())[:4]:
        assert len(record.latents) == 3
        for packed in record.latents:
            latents = Latents.unpack(packed)
            image = decode_image(before[name].image)
            assert latents.whole == image.size and latents.mean.dtype.name == "bfloat16"
            height, width = (4 * cells for cells in latents.mean.shape[:2])
            assert latents.crop.width / latents.crop.height == pytest.approx(width / height)
            mean, log_variance = encoder(cut(image, latents.crop, height, width))
            # Half a unit in the last place of bfloat16.
            np.testing.assert_allclose(latents.mean.astype(np.float32), mean, rtol=2**-8, atol=1e-5)
            np.testing.assert_allclose(latents.log_variance.astype(np.float32), log_variance, rtol=2**-8, atol=1e-5)
            crops.add(latents.crop)
    assert len(crops) == 12


def test_each_image_has_the_size_of_its_aspect_and_small_ones_are_left_out(images: Path, shapes: Path) -> None:
    wanted = {(48, 32): (16, 24), (32, 48): (24, 16), (41, 40): (16, 16)}
    before = {name: (record.width, record.height) for name, record in records(images).items()}
    found = {name: Latents.unpack(record.latents[0]).mean.shape[:2] for name, record in records(shapes).items()}
    assert {name: (4 * h, 4 * w) for name, (h, w) in found.items()} == {
        name: wanted[pixels] for name, pixels in before.items() if pixels != (12, 14)
    }
    assert read_manifest(shapes)["encoding"]["left_out"] == Counter(before.values())[(12, 14)] > 0
    source = open_split(shapes, "train")
    assert source.sized is not None
    for size, spans in source.sized.items():
        for start, stop in itertools.chain(*spans.values()):
            for index in range(start, stop):
                assert Latents.unpack(source[index].latents[0]).mean.shape[:2] == (size[0] // 4, size[1] // 4)


@pytest.mark.parametrize("encoded", [True, False])
def test_batches_have_one_size_in_proportion_and_boxes_follow(
    encoded: bool, images: Path, shapes: Path, request: pytest.FixtureRequest
) -> None:
    changes = {"data.sizes": SIZES, "data.crop": "random", "data.smallest_side": 16}
    config = make_config(shapes if encoded else images, **changes)
    tokenizer = load_tokenizer(config)
    config.train.caption_dropout = 0.0

    def read(count: int, **options: Any) -> list[dict[str, np.ndarray]]:
        return list(itertools.islice(make_loader(config, tokenizer, batch_size=4, seed=1, **options), count))

    whole = read(60)
    name = "mean" if encoded else "image"
    sizes = Counter(tuple(batch[name].shape[1:3]) for batch in whole)
    counts = Counter(
        tuple(found) for found in ((r.width, r.height) for r in records(images).values()) if found != (12, 14)
    )
    unit = 1 if encoded else 4
    for pixels, size in (((48, 32), (4, 6)), ((32, 48), (6, 4)), ((41, 40), (4, 4))):
        share = counts[pixels] / counts.total()
        assert sizes[(size[0] * unit, size[1] * unit)] == pytest.approx(60 * share, abs=1)
    seen = Counter(int(index) for batch in whole for index in batch["index"])
    assert max(seen.values()) - min(seen.values()) <= 3  # whole epochs of each size, and the one that goes on
    for batch in whole:
        assert batch["loss_weight"].shape[1:] == tuple(n // (1 if encoded else 4) for n in batch[name].shape[1:3])
    # Processes, and a later start.
    for one, first, second in zip(
        whole[5:9], read(4, rows=(0, 1), start=20), read(4, rows=(2, 3), start=20), strict=True
    ):
        for key, value in one.items():
            np.testing.assert_array_equal(value, np.concatenate([first[key], second[key]]))


@pytest.mark.slow
def test_worker_processes_read_the_same_latents(shapes: Path) -> None:
    config = make_config(shapes, **{"data.sizes": SIZES, "data.crop": "random", "data.smallest_side": 16})
    alone, helped = (
        iter(make_loader(config, load_tokenizer(config), batch_size=4, seed=1, workers=workers)) for workers in (0, 2)
    )
    for first, second in itertools.islice(zip(alone, helped, strict=True), 12):
        for name, value in first.items():
            np.testing.assert_array_equal(value, second[name])
            assert value.dtype == second[name].dtype
    helped.close()


def test_boxes_follow_the_crop_that_is_drawn(shapes: Path) -> None:
    config = make_config(shapes, **{"data.sizes": SIZES, "data.crop": "random", "data.smallest_side": 16})
    config.knowledge.enabled, config.knowledge.image_rate = True, 1.0
    config.knowledge.special_tokens = False
    source = open_split(shapes, "train")
    maker = loader.ExampleMaker.of(config, load_tokenizer(config), source, train=True)
    places = set()
    for seed in range(12):
        drawn = maker.draw(0, np.random.default_rng(seed))
        arrays = maker.arrays(drawn)
        (place,) = [
            place
            for place, packed in enumerate(source[0].latents)
            if np.array_equal(Latents.unpack(packed).mean, arrays["mean"])
        ]
        places.add(place)
        latents = Latents.unpack(source[0].latents[place])
        box = crop_boxes([BOX], *latents.crop, *latents.whole)
        np.testing.assert_array_equal(arrays["loss_weight"], weight_map(box, latents.mean.shape[:2], 0.1))
    assert places == {0, 1, 2}


def steps(path: Path, model: Model, count: int) -> tuple[list[list[str]], list[np.ndarray], Any]:
    """Ids of the records, losses of the samples, and the experts' parameters, after so many steps of training."""
    config, mesh, source = make_config(path), make_mesh({"data": 1}, jax.devices()[:1]), open_split(path, "train")
    config.tokenizer.vocab_size = load_tokenizer(config).vocab_size
    start = {"params": filled(model.abstract_autoencoder()["params"], 1, 0.2)}
    start |= {"mean": np.full(4, 0.1, np.float32), "std": np.full(4, 0.5, np.float32)}
    with jax.set_mesh(mesh):
        task = DiffusionTask(config, build_model(config), mesh, Validation(0, {}, {}), {"autoencoder": start})
        state, losses, seen = task.init(jax.random.key(0)), [], []
        for batch in itertools.islice(make_loader(config, load_tokenizer(config), batch_size=8, seed=0), count):
            seen.append([source[int(index)].id for index in batch["index"]])
            state, metrics = task.train_step(state, rules.to_devices(task.host_batch(batch), mesh, 8))
            losses.append(np.asarray(metrics["per_sample"]))
        return seen, losses, jax.device_get(state["experts"]["params"])


@pytest.mark.hosts
def test_training_is_that_on_images_with_the_same_crops_and_noise(images: Path, squares: Path, model: Model) -> None:
    (seen, losses, params), (seen_too, losses_too, params_too) = (steps(path, model, 3) for path in (images, squares))
    assert seen == seen_too
    np.testing.assert_allclose(losses, losses_too, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), params, params_too)


def test_a_step_gets_the_same_latents_and_words_as_from_images(images: Path, squares: Path, model: Model) -> None:
    batches = [
        next(iter(make_loader(make_config(path), load_tokenizer(make_config(path)), batch_size=8, seed=0)))
        for path in (images, squares)
    ]
    params = filled(model.abstract_autoencoder()["params"], 1, 0.2)
    autoencoder = {"params": params, "mean": np.full(4, 0.1, np.float32), "std": np.full(4, 0.5, np.float32)}
    noise = np.random.default_rng(0).standard_normal((8, *model.latent_shape), np.float32)
    setup: Any = types.SimpleNamespace(model=model)
    with jax.set_mesh(make_mesh({"data": 1}, jax.devices()[:1])):
        draw = jax.jit(lambda batch: step.latents(setup, autoencoder, {**batch, "latent_noise": jnp.asarray(noise)}))
        first, second = (
            np.asarray(draw({name: batch[name] for name in ("image", "mean", "log_variance") if name in batch}))
            for batch in batches
        )
    np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-5 * np.abs(first).max())
    for name in ("tokens", "token_mask", "token_weight", "loss_weight", "index"):
        np.testing.assert_array_equal(*(batch[name] for batch in batches))


def test_another_autoencoder_is_noticed(squares: Path, autoencoder: Path, model: Model, tmp_path: Path) -> None:
    check_autoencoder(make_config(squares), encoding.checkpointing.find(autoencoder))
    other = encoding.checkpointing.find(component(tmp_path, model, 2))
    with pytest.raises(UserError, match=r"holds latents of another autoencoder than that of .*encode the images again"):
        check_autoencoder(make_config(squares), other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.crop": "random"}, "was encoded with crop=center, the config says random"),
        ({"data.sizes": SIZES}, r"was encoded with sizes=\[\[16, 16\]\], .*--config.model.image_size=16 without sizes"),
        ({"model.image_size": 32}, r"was encoded with sizes=.*--config.model.image_size=16"),
        ({"data.smallest_side": 8}, "was encoded with smallest_side=0"),
        ({"phase": "autoencoder"}, "holds latents that `encode` made, and an autoencoder is trained on images"),
    ],
)
def test_a_config_of_other_latents_is_refused(changes: dict[str, Any], message: str, squares: Path) -> None:
    config = make_config(squares, **changes)
    with pytest.raises(UserError, match=message):
        make_loader(config, load_tokenizer(config), batch_size=4, seed=0)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"crops": 2}, "--crops=2 central crops are all the same"),
        ({}, {"crops": 0}, "--crops=0 must be at least 1"),
        ({}, {"dtype": "int8"}, "--dtype=int8 must be one of bfloat16, float32"),
        ({"data.sizes": ((16, 18),)}, {}, "--config.data.sizes has 16x18, but .* multiples of 4"),
        ({"data.sizes": ((16,),)}, {}, "which is not a height and a width"),
        ({"data.sizes": ((16, 16), (16, 16))}, {}, "names a size twice"),
        ({"data.smallest_side": -1}, {}, "smallest_side=-1 must not be negative"),
        ({"model.autoencoder.channels": (8,)}, {}, "--checkpoint=.* is of other sizes than the config"),
    ],
)
def test_mistakes_are_one_sentence(
    changes: dict[str, Any], options: dict[str, Any], message: str, images: Path, autoencoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        run(make_config(**changes), images, tmp_path / "out", autoencoder, **options)
    assert not (tmp_path / "out").exists()


def test_folders_that_cannot_be_meant_are_refused(
    images: Path, squares: Path, autoencoder: Path, tmp_path: Path
) -> None:
    config = make_config()
    for source, output, message in (
        (squares, tmp_path / "out", "holds latents already"),
        (images, images / "inside", "is --input or lies inside it"),
        (images, shutil.copytree(images, tmp_path / "other"), "holds records that are not encoded ones"),
        (tmp_path / "nothing", tmp_path / "out", "holds no manifest.json"),
    ):
        with pytest.raises(UserError, match=message):
            run(config, source, output, autoencoder)
    with pytest.raises(UserError, match=r"--checkpoint=.*: there is no such folder"):
        run(config, images, tmp_path / "out", tmp_path / "nothing")
    damaged = shutil.copytree(images, tmp_path / "damaged")
    shard = next(damaged.glob("train-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"shard {shard.name} of --input=.* is missing or damaged"):
        run(config, damaged, tmp_path / "out", autoencoder)


def test_what_needs_images_refuses_latents(squares: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the train records of .* have latents in place of images"):
        open_split(squares, "train", images=True)
    assert len(open_split(squares, "holdout", images=True)) > 0
    with pytest.raises(UserError, match="annotate the data before they are encoded"):
        annotate(str(squares), str(tmp_path / "out"))


def test_a_damaged_shard_names_the_command_that_makes_it_again(squares: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(squares, tmp_path / "damaged")
    next(damaged.glob("train-*")).write_bytes(b"")
    with pytest.raises(UserError, match=r"run `python -m ernie_vilg_jax.encode` with --output="):
        open_split(damaged, "train")


def test_a_size_reads_as_it_is_written() -> None:
    assert (str(Size(1536, 1024)), Size(1536, 1024).aspect) == ("1536x1024", pytest.approx(2 / 3))


def test_bytes_that_are_no_latents_are_one_error() -> None:
    whole = Latents((0, 0, 1, 1), (1, 1), np.zeros((2, 2, 1), np.float32), np.zeros((2, 2, 1), np.float32)).pack()  # type: ignore[arg-type]
    for broken in ({}, {**whole, "dtype": "int7"}, {**whole, "mean": b"123"}, {**whole, "crop": [1]}):
        with pytest.raises(ValueError, match="latents are not what"):
            Latents.unpack(broken)
