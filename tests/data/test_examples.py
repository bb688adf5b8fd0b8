"""The effect of knowledge on a record: tokens, attention weights, loss weights, captions."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from ernie_vilg_jax.config import latent_size
from ernie_vilg_jax.data.examples import ExampleMaker
from ernie_vilg_jax.data.loader import make_loader
from ernie_vilg_jax.data.records import Record, open_split
from ernie_vilg_jax.data.tokenizers import Tokenizer, load_tokenizer
from ernie_vilg_jax.errors import UserError
from tests.small_data import fixed_batch, make_config, picture

ALWAYS = {"text_rate": 1.0, "image_rate": 1.0, "append_rate": 1.0, "generated_rate": 0.0}


def knowing(path: Path, **changes: Any) -> ConfigDict:
    config = make_config(path=str(path))
    config.knowledge.enabled = True
    config.knowledge.update(changes)
    return config


@pytest.fixture
def tokenizer(annotated: Path) -> Tokenizer:
    return load_tokenizer(make_config(path=str(annotated)))


def batches(config: ConfigDict, tokenizer: Tokenizer, count: int = 4, **options: Any) -> list[dict[str, np.ndarray]]:
    iterator = iter(make_loader(config, tokenizer, batch_size=16, seed=3, **options))
    return [next(iterator) for _ in range(count)]


def joined(params: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
    return np.concatenate([part[name] for part in params])


class OneRecord:
    """A split of one record."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def __getitem__(self, index: int) -> Record:
        return self.record

    def locate(self, index: int) -> tuple[str, int]:
        return "shard", index


def maker_of(record: Record, tokenizer: Tokenizer, **changes: Any) -> ExampleMaker:
    config = make_config(path="unused")
    config.knowledge.enabled = True
    config.knowledge.update({**ALWAYS, **changes})
    return ExampleMaker.of(config, tokenizer, OneRecord(record), train=True)  # type: ignore[arg-type]


CIRCLE = {"name": {"zh": "圆形", "en": "circle"}, "box": [0.25, 0.0, 0.5, 1.0], "score": 0.9}
SQUARE = {"name": {"zh": "正方形", "en": "square"}, "box": [0.5, 0.5, 1.0, 1.0], "score": 0.8}
RECORD = Record(
    id="own/1",
    image=picture(size=(16, 16)),
    captions={"zh": ["红色的圆形"]},
    concept="1",
    source="own",
    objects=[CIRCLE, SQUARE],
    parsed={"zh": [{"words": [[0, 2, "a"], [3, 5, "n"]], "mentions": [0]}]},
)
RNG = 7


def drawn(maker: ExampleMaker) -> Any:
    return maker.draw(0, np.random.default_rng(RNG))


def test_special_tokens_stand_before_key_words_and_weights_on_them(tokenizer: Tokenizer):
    maker = maker_of(dataclasses.replace(RECORD, objects=[]), tokenizer)
    example = maker(0, np.random.default_rng(RNG))
    count = int(example["token_mask"].sum())
    ids, weights = example["tokens"][1 : count - 1].tolist(), example["token_weight"][1 : count - 1]
    names = {number: f"[{pos}]" for pos, number in tokenizer.symbol_ids.items()}
    assert "".join(names.get(number) or tokenizer.decode([number]) for number in ids) == "[a]红色的[n]圆形"
    key = [tokenizer.decode([n]) for n, weight in zip(ids, weights, strict=True) if weight != 1]
    assert "".join(key) == "红色圆形"
    np.testing.assert_allclose(weights[weights != 1], 1.01)
    outside = np.delete(example["token_weight"], np.arange(1, count - 1))
    np.testing.assert_array_equal(outside, 1)


def test_salient_objects_weigh_more_in_the_loss_and_are_named(tokenizer: Tokenizer):
    maker = maker_of(RECORD, tokenizer)
    assert drawn(maker).text == "红色的圆形,正方形"
    assert [drawn(maker).text[w.start : w.end] for w in drawn(maker).words] == ["红色", "圆形", "正方形"]
    expected = np.ones((4, 4), np.float32)
    expected[:, 1] = expected[2:, 2:] = 1.1
    np.testing.assert_allclose(maker.arrays(drawn(maker))["loss_weight"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "text", "boxes"),
    [
        ({"append_rate": 0.0}, "红色的圆形", 2),
        ({"min_score": 0.85}, "红色的圆形", 1),
        ({"top_k": 1}, "红色的圆形", 1),
        ({"image_rate": 0.0}, "红色的圆形,正方形", 0),
    ],
)
def test_each_piece_has_its_own_switch(changes: dict, text: str, boxes: int, tokenizer: Tokenizer):
    one = drawn(maker_of(RECORD, tokenizer, **changes))
    assert (one.text, len(one.boxes)) == (text, boxes)


def test_a_generated_caption_takes_the_place_of_the_others(tokenizer: Tokenizer):
    generated = [{"text": "一个正方形", "words": [[2, 5, "n"]], "mentions": [1], "by": "captioner"}]
    record = dataclasses.replace(RECORD, generated={"zh": generated})
    one = drawn(maker_of(record, tokenizer, generated_rate=1.0))
    assert one.text == "一个正方形,圆形"
    assert [one.text[word.start : word.end] for word in one.words] == ["正方形", "圆形"]
    assert drawn(maker_of(record, tokenizer, generated_rate=0.0)).text == "红色的圆形,正方形"


def test_boxes_follow_the_crop(tokenizer: Tokenizer):
    """The middle of an image twice as wide: half of a box that begins at a quarter, nothing of one at the edge."""
    at_edge = {"name": {"zh": "星形"}, "box": [0.0, 0.0, 0.2, 1.0], "score": 0.9}
    record = dataclasses.replace(RECORD, image=picture(size=(32, 16)), objects=[CIRCLE, at_edge])
    maker = maker_of(record, tokenizer)
    weight = maker.arrays(drawn(maker))["loss_weight"]
    np.testing.assert_allclose(weight, np.repeat([[1.1, 1.1, 1.0, 1.0]], 4, axis=0), rtol=1e-6)
    assert drawn(maker).text == "红色的圆形"  # an object outside the crop is not appended


def test_half_of_the_samples_are_emphasised(annotated: Path, tokenizer: Tokenizer):
    params = batches(knowing(annotated), tokenizer, 25)
    for name in ("token_weight", "loss_weight"):
        share = (joined(params, name).reshape(400, -1) > 1).any(1).mean()
        assert 0.4 < share < 0.6, name
    assert joined(params, "loss_weight").max() == pytest.approx(1.1)
    assert joined(params, "token_weight").max() == pytest.approx(1.01)


def test_switched_off_nothing_is_left_of_knowledge(annotated: Path, prepared: Path, tokenizer: Tokenizer):
    """Off, annotated data gives the same as plain data; on, the same images and captions in the same order."""
    plain = batches(make_config(path=str(prepared)), tokenizer)
    off = batches(make_config(path=str(annotated)), tokenizer)
    on = batches(knowing(annotated), tokenizer)
    for name in plain[0]:
        np.testing.assert_array_equal(joined(plain, name), joined(off, name), err_msg=name)
    for name in ("image", "index"):
        np.testing.assert_array_equal(joined(plain, name), joined(on, name), err_msg=name)
    assert (joined(plain, "tokens") != joined(on, "tokens")).any()


def test_workers_and_resume_repeat_the_draws(annotated: Path, tokenizer: Tokenizer):
    config = knowing(annotated)
    here = batches(config, tokenizer, 3)
    for batch, other in zip(here, batches(config, tokenizer, 3, workers=2), strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)
    iterator = iter(make_loader(config, tokenizer, batch_size=16, seed=3))
    next(iterator)
    state = iterator.get_state()
    again = iter(make_loader(config, tokenizer, batch_size=16, seed=3))
    again.set_state(state)
    following = next(again)
    for name in following:
        np.testing.assert_array_equal(following[name], here[1][name], err_msg=name)


def test_validation_is_plain(annotated: Path, prepared: Path, tokenizer: Tokenizer):
    with_knowledge = fixed_batch(knowing(annotated, **ALWAYS), tokenizer, "holdout", 8, seed=1)
    plain = fixed_batch(make_config(path=str(prepared)), tokenizer, "holdout", 8, seed=1)
    for name in plain:
        np.testing.assert_array_equal(with_knowledge[name], plain[name], err_msg=name)
    assert (plain["loss_weight"] == 1).all() and (plain["token_weight"] == 1).all()


def test_data_that_was_not_annotated_is_refused(prepared: Path, tokenizer: Tokenizer):
    with pytest.raises(UserError, match=r"not annotated.*ernie_vilg_jax\.annotate.*config\.knowledge\.enabled=False"):
        make_loader(knowing(prepared), tokenizer, batch_size=2, seed=0)
    config = knowing(prepared)
    config.phase = "autoencoder"  # reads no captions
    make_loader(config, tokenizer, batch_size=2, seed=0)


@pytest.mark.parametrize(("field", "value"), [("text_rate", 1.5), ("generated_rate", -0.1), ("loss_weight", -1.0)])
def test_invalid_settings_are_named(field: str, value: float, annotated: Path, tokenizer: Tokenizer):
    with pytest.raises(UserError, match=f"config.knowledge.{field}"):
        make_loader(knowing(annotated, **{field: value}), tokenizer, batch_size=2, seed=0)


def test_a_vocabulary_without_room_for_symbols_is_refused(annotated: Path, tokenizer: Tokenizer):
    bare: Any = dataclasses.make_dataclass("Bare", ["symbol_ids"])({})
    with pytest.raises(UserError, match=r"\[unused1\].*special_tokens=False"):
        ExampleMaker.of(knowing(annotated), bare, open_split(annotated, "train"), train=True)


@pytest.mark.parametrize("name", ["paper", "ablation", "demo"])
def test_the_latent_grid_is_the_autoencoders(name: str):
    import importlib

    from ernie_vilg_jax.model import build_model

    config = importlib.import_module(f"configs.{name}").get_config()
    assert (latent_size(config), latent_size(config)) == build_model(config).latent_shape[:2]
