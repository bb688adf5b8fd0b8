import io
import pickle
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax.data import loader, records
from ernie_vilg_jax.data.files import sealed_json
from ernie_vilg_jax.data.loader import fixed_examples, make_loader, record_id
from ernie_vilg_jax.data.manifests import MANIFEST, SCHEMA
from ernie_vilg_jax.data.records import Record, open_split
from ernie_vilg_jax.data.tokenizers import Tokenizer, load_tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import cut_square, decode_image, draw_crop
from ernie_vilg_jax.preparation.prepare import prepare
from tests.small_data import fixed_batch, make_config, picture


@pytest.fixture
def tokenizer(ready: ConfigDict) -> Tokenizer:
    return load_tokenizer(ready)


def indices(batches: Any) -> list[int]:
    return [int(index) for batch in batches for index in batch["index"]]


def take(batches: Any, count: int) -> list[dict[str, np.ndarray]]:
    iterator = iter(batches)
    return [next(iterator) for _ in range(count)]


def assert_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_batch_has_the_stated_shapes_and_types(ready: ConfigDict, tokenizer: Tokenizer):
    (batch,) = take(make_loader(ready, tokenizer, batch_size=4, seed=0), 1)
    assert {name: (value.shape, value.dtype.name) for name, value in batch.items()} == {
        "image": ((4, 16, 16, 3), "uint8"),
        "tokens": ((4, 24), "int32"),
        "token_mask": ((4, 24), "bool"),
        "token_weight": ((4, 24), "float32"),
        "loss_weight": ((4, 4, 4), "float32"),
        "index": ((4,), "int64"),
    }
    source = open_split(ready.data.path, "train")
    for row, index in enumerate(batch["index"]):
        record = source[int(index)]
        assert record_id(source, index) == record.id
        pixels = np.asarray(Image.open(io.BytesIO(record.image)))
        np.testing.assert_array_equal(batch["image"][row], pixels)
        spoken = [tokenizer.decode(tokenizer.encode(c)[0]) for cs in record.captions.values() for c in cs]
        assert tokenizer.decode(batch["tokens"][row]) in spoken


@pytest.mark.parametrize("count", [1, 2, 3])
def test_processes_together_see_no_record_twice_in_an_epoch(ready: ConfigDict, tokenizer: Tokenizer, count: int):
    total = len(open_split(ready.data.path, "train"))
    size = 2 * count
    shares = [
        indices(make_loader(ready, tokenizer, batch_size=size, rows=range(2 * h, 2 * h + 2), seed=3, epochs=1))
        for h in range(count)
    ]
    seen = Counter(index for share in shares for index in share)
    assert seen.total() == len(seen) == total - total % size  # whole batches only
    assert {len(share) for share in shares} == {total // size * 2}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_endless_stream_passes_through_whole_epochs(ready: ConfigDict, tokenizer: Tokenizer, count: int):
    total = len(open_split(ready.data.path, "train"))
    streams = [iter(make_loader(ready, tokenizer, batch_size=count, rows=[h], seed=3)) for h in range(count)]
    order = [int(next(streams[place % count])["index"][0]) for place in range(2 * total)]
    assert sorted(order[:total]) == sorted(order[total:]) == list(range(total))
    assert order[:total] != order[total:]  # shuffled again


def test_the_global_batch_does_not_depend_on_the_number_of_processes(ready: ConfigDict, tokenizer: Tokenizer):
    whole = take(make_loader(ready, tokenizer, batch_size=6, seed=1), 5)
    params = [take(make_loader(ready, tokenizer, batch_size=6, rows=[2 * h, 2 * h + 1], seed=1), 5) for h in range(3)]
    for step, batch in enumerate(whole):
        assert_equal(batch, {name: np.concatenate([part[step][name] for part in params]) for name in batch})


def test_evaluation_keeps_the_order_and_the_last_batch(ready: ConfigDict, tokenizer: Tokenizer):
    batches = list(make_loader(ready, tokenizer, split="holdout", batch_size=4, seed=0, epochs=1, train=False))
    assert indices(batches) == list(range(len(open_split(ready.data.path, "holdout"))))


def test_a_seed_decides_everything(ready: ConfigDict, tokenizer: Tokenizer):
    ready.train.caption_dropout = 0.3
    a, b = (take(make_loader(ready, tokenizer, batch_size=8, seed=5), 4) for _ in range(2))
    for one, other in zip(a, b, strict=True):
        assert_equal(one, other)
    assert indices(a) != indices(take(make_loader(ready, tokenizer, batch_size=8, seed=6), 4))


def test_a_restored_iterator_continues_with_the_same_batches(ready: ConfigDict, tokenizer: Tokenizer):
    ready.train.caption_dropout = 0.3
    iterator = iter(make_loader(ready, tokenizer, batch_size=8, seed=5))
    for _ in range(7):
        next(iterator)
    state = iterator.get_state()
    rest = [next(iterator) for _ in range(10)]  # crosses into the next epoch
    restored = iter(make_loader(ready, tokenizer, batch_size=8, seed=5))
    restored.set_state(state)
    for batch in rest:
        assert_equal(batch, next(restored))


def test_captions_are_dropped_at_the_given_rate_and_change_between_epochs(ready: ConfigDict, tokenizer: Tokenizer):
    empty = tokenizer.encode("")[0]

    def dropped(probability: float) -> float:
        ready.train.caption_dropout = probability
        batches = take(make_loader(ready, tokenizer, batch_size=40, seed=0), 8)
        return float(np.mean([(row == empty).all() for batch in batches for row in batch["tokens"]]))

    assert dropped(0.0) == 0
    assert dropped(1.0) == 1
    assert 0.2 < dropped(0.3) < 0.4


def test_language_restricts_captions(ready: ConfigDict, tokenizer: Tokenizer):
    ready.data.language = "en"
    texts = [
        tokenizer.decode(row)
        for batch in take(make_loader(ready, tokenizer, batch_size=8, seed=0), 3)
        for row in batch["tokens"]
    ]
    assert all(text.isascii() for text in texts)


def test_fixed_examples_are_fixed_and_alternate_languages(ready: ConfigDict, tokenizer: Tokenizer):
    ready.train.caption_dropout = 1.0  # must have no effect
    a, again, other = (fixed_batch(ready, tokenizer, "train", 8, seed) for seed in (1, 1, 2))
    assert_equal(a, again)
    assert len(set(a["index"].tolist())) == 8
    assert [tokenizer.decode(row).isascii() for row in a["tokens"]] == [False, True] * 4
    assert set(a["index"].tolist()) != set(other["index"].tolist())
    whole = fixed_batch(ready, tokenizer, "holdout", 10_000, seed=1)
    assert sorted(whole["index"]) == list(range(len(open_split(ready.data.path, "holdout"))))


def test_batches_of_fixed_examples_are_filled_up_and_read_by_rows(ready: ConfigDict, tokenizer: Tokenizer):
    examples = fixed_examples(ready, tokenizer, "train", 10, seed=1)
    whole = list(examples.batches(4))
    assert [batch["valid"].tolist() for batch in whole] == [[True] * 4, [True] * 4, [True, True, False, False]]
    places = np.concatenate([batch["index"] for batch in whole])
    np.testing.assert_array_equal(places, [*examples.chosen, *examples.chosen[:2]])
    for batch, part in zip(whole, examples.batches(4, rows=(1, 3)), strict=True):
        assert_equal({name: array[[1, 3]] for name, array in batch.items()}, part)


@pytest.mark.slow
def test_worker_processes_give_the_same_batches_resume_and_name_mistakes(ready: ConfigDict, tokenizer: Tokenizer):
    here = take(make_loader(ready, tokenizer, batch_size=8, seed=5, workers=0), 3)
    iterator = iter(make_loader(ready, tokenizer, batch_size=8, seed=5, workers=2))
    for batch in here:
        assert_equal(batch, next(iterator))
    state = iterator.get_state()
    following = next(iterator)
    iterator.set_state(state)
    assert_equal(following, next(iterator))
    iterator.close()


def test_inputs_of_workers_can_be_pickled(ready: ConfigDict, tokenizer: Tokenizer):
    example = loader._example(ready, tokenizer, "train", train=True)
    copy = pickle.loads(pickle.dumps(example))
    assert_equal(copy(3, np.random.default_rng(0)), example(3, np.random.default_rng(0)))


def with_images(path: Path, change: Any) -> ConfigDict:
    """Data of ten own records whose images `change` decides."""
    all_records = [
        Record(id=f"own/{n}", image=change(n), captions={"en": [f"thing {n}"]}, concept=str(n), source="own")
        for n in range(10)
    ]
    entry = records.write_shard(path / "train-00000-of-00001.array_record", all_records)
    splits = {"train": {"records": 10, "shards": [entry]}, "holdout": {"records": 0, "shards": []}}
    manifest = {"schema": SCHEMA, "fingerprint": "", "own_data": True, "splits": splits}
    (path / MANIFEST).write_bytes(sealed_json(manifest))
    return make_config(path=str(path))


def test_an_undecodable_image_is_named_with_its_record_and_shard(tmp_path: Path, tokenizer: Tokenizer):
    config = with_images(tmp_path, lambda n: b"no image" if n == 7 else picture())
    with pytest.raises(UserError, match=r"'own/7' \(record 7 of .*train-00000-of-00001\.array_record\).*decoded"):
        list(make_loader(config, tokenizer, batch_size=2, seed=0, epochs=1))


def test_a_truncated_image_is_undecodable(tmp_path: Path, tokenizer: Tokenizer):
    config = with_images(tmp_path, lambda n: picture(size=(300, 300), kind="JPEG")[:-200])
    with pytest.raises(UserError, match="cannot be decoded"):
        list(make_loader(config, tokenizer, batch_size=2, seed=0, epochs=1))


def test_a_language_without_captions_is_named(tmp_path: Path, tokenizer: Tokenizer):
    config = with_images(tmp_path, lambda n: picture())
    config.data.language = "zh"
    with pytest.raises(UserError, match=r"'own/\d' has no caption in zh"):
        list(make_loader(config, tokenizer, batch_size=2, seed=0, epochs=1))


def test_an_empty_split_and_too_large_a_batch_are_named(tmp_path: Path, tokenizer: Tokenizer):
    config = with_images(tmp_path, lambda n: picture())
    with pytest.raises(UserError, match=r"'holdout' of .* is empty"):
        make_loader(config, tokenizer, split="holdout", batch_size=2, seed=0)
    with pytest.raises(UserError, match="lower batch_size"):
        make_loader(config, tokenizer, batch_size=11, seed=0, epochs=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": ""}, "data.path is empty: run"),
        ({"path": "/nonexistent/place"}, "is not a directory: run"),
        ({"language": "fr"}, "must be 'zh', 'en' or 'both'"),
        ({"holdout_fraction": 0.5}, "data.holdout_fraction=0.05, the config says 0.5"),
        ({"sources": (ConfigDict({"name": "scenes", "count": 99, "simple": True}),)}, "scenes.count=100.* says 99"),
        ({"sources": (ConfigDict({"name": "emoji"}),)}, "prepare again"),
        ({"weights": ConfigDict({"photos": 1.0})}, "weights names 'photos'"),
        ({"weights": ConfigDict({"scenes": 0.0})}, "weights are all zero"),
    ],
)
def test_mistakes_in_the_config_are_one_sentence(
    ready: ConfigDict, tokenizer: Tokenizer, change: dict[str, Any], message: str
):
    config = make_config(**({"path": ready.data.path} | change))
    with pytest.raises(UserError, match=message):
        make_loader(config, tokenizer, batch_size=2, seed=0)


def test_defaults_spelt_out_are_the_same_settings(ready: ConfigDict):
    ready.data.sources[0].seed = 0
    ready.data.sources[0].size = 16
    loader.check_data(ready)


def test_weights_set_the_share_of_each_source(tmp_path: Path, tokenizer: Tokenizer):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(12):
        (folder / f"{n}.png").write_bytes(picture())
        (folder / f"{n}.txt").write_text(f"picture {n}")
    sources = (
        ConfigDict({"name": "scenes", "count": 60}),
        ConfigDict({"name": "folder", "path": str(folder)}),
    )
    config = make_config(sources=sources, weights=ConfigDict({"scenes": 1.0, "folder": 3.0}))
    config.data.path = str(tmp_path / "out")
    prepare(config, config.data.path)
    source = open_split(config.data.path, "train")
    names = Counter(source[i].source for i in indices(take(make_loader(config, tokenizer, batch_size=20, seed=0), 20)))
    assert names["folder"] == pytest.approx(300, abs=5)
    params = [make_loader(config, tokenizer, batch_size=4, rows=rows, seed=0) for rows in ([0, 1], [2, 3])]
    count = zip(*(take(part, 10) for part in params), strict=True)
    mixed = [int(i) for pair in count for batch in pair for i in batch["index"]]
    assert mixed == indices(take(make_loader(config, tokenizer, batch_size=4, seed=0), 10))


@pytest.mark.parametrize("weights", [{"emoji": 3.0, "scenes": 1.0}, {"emoji": 3.0, "folder": 2.0}, {"folder": 0.5}, {}])
def test_weights_of_the_configs_own_sources_do_not_stop_other_data(
    weights: dict[str, float], tmp_path: Path, tokenizer: Tokenizer
):
    images = tmp_path / "images"
    images.mkdir()
    for n in range(12):
        (images / f"{n}.png").write_bytes(picture())
        (images / f"{n}.txt").write_text(f"picture {n}")
    own = make_config(sources=(ConfigDict({"name": "folder", "path": str(images)}),))
    for own_data in (True, False):
        path = tmp_path / f"out{own_data}"
        prepare(own, path, own_data=own_data)
        config = make_config(path=str(path), weights=ConfigDict(weights))
        if not own_data:
            config.data.sources = own.data.sources
        if own_data or set(weights) <= {"folder"}:
            assert len(indices(take(make_loader(config, tokenizer, batch_size=4, seed=0), 3))) == 12
        else:
            with pytest.raises(UserError, match="weights names 'emoji'"):
                make_loader(config, tokenizer, batch_size=4, seed=0)


def test_transparency_is_laid_on_white_and_orientation_obeyed():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    buffer = io.BytesIO()
    clear.save(buffer, "PNG")
    assert np.asarray(decode_image(buffer.getvalue())).min() == 255
    turned = Image.new("RGB", (6, 3))
    exif = turned.getexif()
    exif[0x0112] = 6  # rotated by 90 degrees
    buffer = io.BytesIO()
    turned.save(buffer, "JPEG", exif=exif)
    assert decode_image(buffer.getvalue()).size == (3, 6)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "I;16"])
def test_every_mode_becomes_rgb(mode: str):
    buffer = io.BytesIO()
    Image.new(mode, (5, 5)).save(buffer, "TIFF" if mode == "CMYK" else "PNG")
    assert decode_image(buffer.getvalue()).mode == "RGB"


def test_the_cut_takes_the_centre_and_random_crops_stay_inside():
    wide = Image.new("RGB", (30, 10), "black")
    wide.paste((255, 255, 255), (10, 0, 20, 10))
    np.testing.assert_array_equal(cut_square(wide, draw_crop(30, 10, None), 10), np.full((10, 10, 3), 255, np.uint8))
    crops = [cut_square(wide, draw_crop(30, 10, np.random.default_rng(n)), 10) for n in range(20)]
    assert all(crop.shape == (10, 10, 3) and crop.dtype == np.uint8 for crop in crops)
    assert len({float(crop.mean()) for crop in crops}) > 10


def test_a_directory_can_be_moved(prepared: Path, tmp_path: Path, tokenizer: Tokenizer):
    moved = shutil.copytree(prepared, tmp_path / "moved")
    assert take(make_loader(make_config(path=str(moved)), tokenizer, batch_size=2, seed=0), 1)
