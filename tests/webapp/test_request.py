"""Any input becomes a valid request or one sentence."""

import base64
import dataclasses
import io
import json
import math
from typing import Any
from urllib.parse import parse_qsl

import pytest
from PIL import Image

from configs.demo import get_config
from ernie_vilg_jax.data.sizes import Size
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.pipeline.languages import Languages
from ernie_vilg_jax.pipeline.styles import OURS, SERVICE
from ernie_vilg_jax.preparation.sources.scenes import COLOURS, RELATIONS
from ernie_vilg_jax.preparation.sources.shapes import SHAPES
from ernie_vilg_jax.sampling_params import ACCEPTS, SAMPLERS, SamplingParams
from ernie_vilg_jax.templates import render
from ernie_vilg_jax.webapp import links
from ernie_vilg_jax.webapp.options import choices_for
from ernie_vilg_jax.webapp.request import (
    FIELDS,
    MOST_IMAGES,
    PICTURE,
    PROMPT_LIMIT,
    SEEDS,
    Request,
    limits,
    read_request,
)

CHOICES = choices_for(get_config())


def png(colour: str, width: int = 64, height: int | None = None) -> str:
    """An image as the page sends it."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height or width), colour).save(buffer, "PNG")
    return PICTURE + base64.b64encode(buffer.getvalue()).decode()


def request(**values: Any) -> Request:
    return read_request(CHOICES, **{"prompt": "一只猫", **values})


def test_defaults_are_those_of_the_checkpoint():
    assert request() == Request("一只猫", SamplingParams(guidance_scale=3.0), plain="一只猫")


def test_a_whole_order():
    made = request(style="3D style", num_images=8.0, random_seed=False, seed=7, steps=25, guidance_scale=5,
                 negative_prompt="红色", sampler="unipc")  # fmt: skip
    params = {"negative_prompt": ("红色",), "num_images": 8, "seed": 7, "steps": 25, "guidance_scale": 5.0}
    sampled = SamplingParams(**params, sampler="unipc")
    assert made == Request("一只猫，立体风格", sampled, plain="一只猫", style="3D style")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_options_of_the_checkpoints_sampler_do_not_hinder_another(sampler: str):
    choices = dataclasses.replace(CHOICES, params=SamplingParams(sampler="ddim", eta=0.5))
    params = read_request(choices, "一只猫", sampler=sampler).params
    assert params == SamplingParams(sampler=sampler, eta=0.5 if sampler == "ddim" else 0.0)


def test_images_and_masks_come_with_the_request():
    given = {"image": png("red"), "mask": png("white"), "strength": 0.5}
    assert request(**given).image is None, "of a prompt alone"
    made = request(way="image", **given)
    assert made.image is not None and made.image.getpixel((5, 5)) == (255, 0, 0)
    assert made.mask is None and made.strength == 0.5
    made = request(way="mask", candidates=2, rerank="binding", enlarge=4, **given)
    assert made.mask is not None and made.mask.getpixel((5, 5)) == (255, 255, 255)
    assert (made.params.candidates, made.rerank, made.enlarge) == (2, "binding", 4)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"style": "3D style", "num_images": 3, "seed": 5, "steps": 33, "guidance_scale": 4.5, "sampler": "unipc"},
        {"prompt": "a & b = 猫?#", "negative_prompt": "12", "candidates": 2, "rerank": "alignment", "enlarge": 2},
    ],
)
def test_a_link_leads_to_the_request(values: dict[str, Any]):
    made = request(**values)
    query = dict(parse_qsl(links.query_of(made.told())))
    kinds: dict[str, type] = {"prompt": str, "style": str, "num_images": int, "seed": int, "negative_prompt": str}
    kinds |= {"steps": int, "sampler": str, "guidance_scale": float, "candidates": int, "rerank": str, "enlarge": int}
    assert request(**links.values_of(query, kinds)) == made
    broken = {name: "[" for name in query}
    assert set(links.values_of(broken, kinds)) <= {name for name, kind in kinds.items() if kind is str}


def test_a_size_is_one_that_the_model_was_trained_on():
    choices = dataclasses.replace(CHOICES, sizes=(Size(64, 64), Size(64, 96)))
    made = {size: read_request(choices, "一只猫", size=size) for size in (None, "", "64x64", "64x96")}
    assert [(one.params.height, one.params.width) for one in made.values()] == [(64, 64)] * 3 + [(64, 96)]
    assert dict(parse_qsl(links.query_of(made["64x96"].told())))["size"] == "64x96"
    given = read_request(choices, "一只猫", size="64x96", way="image", image=png("red", 96, 64))
    assert given.image is not None and given.image.size == (96, 64)
    for wrong in (png("red"), png("red", 64, 96)):
        with pytest.raises(UserError, match="The image must be 64 pixels high and 96 wide"):
            read_request(choices, "一只猫", size="64x96", way="image", image=wrong)
    with pytest.raises(UserError, match="The size must be one of 64x64, 64x96"):
        read_request(choices, "一只猫", size="96x64")


def test_styles_are_added_in_the_language_of_the_prompt():
    assert request(prompt="a cat", style="flat style").prompt == "a cat, flat style"
    assert request(prompt="红色的 cat", style="flat style").prompt == "红色的 cat，扁平风格"


def test_random_seeds_differ_and_ignore_the_field():
    seeds = {request(random_seed=True, seed=5).params.seed for _ in range(8)}
    assert len(seeds) > 1 and all(0 <= seed < SEEDS for seed in seeds)


def test_the_negative_prompt_is_dropped_if_it_has_no_effect():
    assert request(negative_prompt="red", guidance_scale=1).params.negative_prompt == ()


def test_controls_and_line_breaks_are_spaces():
    assert request(prompt=" a\x00 cat\r\n\tand\u2028a dog\x1b ").prompt == "a cat and a dog"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": None}, "The prompt is empty"),
        ({"prompt": " \n\x00"}, "The prompt is empty"),
        ({"prompt": 5}, "The prompt must be text"),
        ({"prompt": ["一只猫"]}, "The prompt must be text"),
        ({"prompt": {"path": "/etc/passwd"}}, "The prompt must be text"),
        ({"prompt": "猫" * (PROMPT_LIMIT + 1)}, "has 2001 characters; at most 2000"),
        ({"prompt": "a" * 10_000_000}, "has 10000000 characters"),
        ({"prompt": json.loads('"\\ud83d"')}, "lone surrogate"),
        ({"negative_prompt": 1.5}, "The negative prompt must be text"),
        ({"negative_prompt": "a" * 2001}, "The negative prompt has 2001"),
        ({"style": "cubism"}, "The style must be one of Google style, flat style"),
        ({"style": {}}, "The style must be one of"),
        ({"num_images": 0}, "number of images must be a whole number from 1 to 8"),
        ({"num_images": 9}, "number of images must be a whole number from 1 to 8"),
        ({"num_images": 1.5}, "number of images must be a whole number"),
        ({"num_images": "2"}, "number of images must be a whole number"),
        ({"num_images": True}, "number of images must be a whole number"),
        ({"num_images": 10**4000}, "number of images must be a whole number from 1 to 8"),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295"),
        ({"seed": SEEDS}, "seed must be a whole number from 0 to 4294967295"),
        ({"seed": float("nan")}, "seed must be a whole number"),
        ({"seed": []}, "seed must be a whole number"),
        ({"random_seed": "yes"}, "must be true or false"),
        ({"random_seed": 1}, "must be true or false"),
        ({"random_seed": []}, "must be true or false"),
        ({"steps": 10**9}, "The number of steps must be a whole number from 1 to 250"),
        ({"steps": 11.5}, "The number of steps must be a whole number from 1 to 250"),
        ({"candidates": 5}, "number of candidates must be a whole number from 1 to 4"),
        ({"candidates": 2}, "A scorer has to choose among candidates"),
        ({"candidates": 2, "rerank": "taste"}, "The scorer must be one of "),
        ({"enlarge": 3}, "The enlargement must be one of 1, 2, 4, 8"),
        ({"enlarge": True}, "The enlargement must be a whole number"),
        ({"way": "photo"}, "The way must be one of text, image, mask"),
        ({"way": "image"}, "There is no image: choose one"),
        ({"way": "mask", "image": png("red")}, "Nothing is marked: paint on the image"),
        ({"way": "image", "image": "http://10.0.0.1/a.png"}, "The image must be a PNG in base64"),
        ({"way": "image", "image": PICTURE + "AAAA"}, "The image cannot be read: it is no PNG, or a damaged one"),
        ({"way": "image", "image": PICTURE + "?" * 40}, "The image cannot be read"),
        ({"way": "image", "image": png("red")[:-40]}, "The image cannot be read"),
        ({"way": "image", "image": png("red", 4096)}, "The image must be 64 pixels high and 64 wide"),
        ({"size": "64x96"}, "The size must be one of 64x64"),
        ({"size": 64}, "The size must be one of 64x64"),
        ({"size": [64, 64]}, "The size must be one of 64x64"),
        ({"way": "image", "image": png("red"), "strength": 0}, "The strength must be above 0"),
        ({"way": "image", "image": 3}, "The image must be text"),
        ({"mask": ["x"]}, "The mask must be text"),
        ({"strength": 1.5}, "The strength must be a number from 0 to 1"),
        ({"guidance_scale": 0.5}, "guidance scale must be a number from 1 to 20"),
        ({"guidance_scale": float("inf")}, "guidance scale must be a number from 1 to 20"),
        ({"guidance_scale": None, "sampler": "magic"}, "The sampler must be one of ddpm, ddim"),
        ({"sampler": 3}, "The sampler must be one of"),
        ({"sampler": [["ddim"]]}, "The sampler must be one of"),
    ],
)
def test_invalid_values_are_refused_in_one_sentence(values: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message) as caught:
        request(**values)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in FIELDS if not ACCEPTS[name].choices])
def test_a_slider_has_an_end(name: str):
    """A field whose range is endless in `SamplingParams` needs an entry in LIMITS."""
    assert all(map(math.isfinite, limits(name)))


def test_limits_themselves_are_taken():
    made = request(prompt="猫" * PROMPT_LIMIT, num_images=MOST_IMAGES, seed=SEEDS - 1, steps=100, guidance_scale=20)
    params = made.params
    assert (params.num_images, params.seed, params.steps, params.guidance_scale) == (8, SEEDS - 1, 100, 20.0)


def test_choices_are_those_that_the_checkpoint_was_trained_on():
    assert list(CHOICES.styles) == ["Google style", "flat style", "3D style", "Twitter style"]
    assert {"一只猫", "a car", "一只猴子", "红色的圆形在蓝色的正方形的左边"} <= set(CHOICES.examples)
    composed = choices_for(get_config("base,composed")).styles
    assert {"3D style", "pixel style", "watercolour style", "line drawing style"} <= set(composed)
    assert len(composed) == 9
    assert composed["watercolour style"].zh == "水彩风格"
    config = get_config("shapes")
    config.sample.steps = 30
    choices = choices_for(config)
    assert tuple(choices.styles.values()) == (*SERVICE, *OURS)
    assert choices.params.steps == 30 and choices.sizes == ((64, 64),)


def test_only_foreign_prompts_are_translated(monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []

    class Translator:
        def __init__(self, model: str) -> None:
            read.append(model)

        def translate(self, texts: list[str]) -> list[str]:
            return ["a bear" if text == "ein Bär" else "" for text in texts]

    monkeypatch.setattr("ernie_vilg_jax.pipeline.languages.HubTranslator", Translator)
    translate = Languages("some/model")
    assert read_request(CHOICES, "一只猫", negative_prompt="dog", translate=translate).prompt == "一只猫" and not read
    made = read_request(CHOICES, "ein Bär", "3D style", negative_prompt="ein Bär", translate=translate)
    assert (made.prompt, made.params.negative_prompt) == ("a bear, 3D style", ("a bear",)) and read == ["some/model"]
    with pytest.raises(UserError, match="could not be translated"):
        translate("кошка")


@pytest.mark.parametrize(
    ("argument", "things", "scenes"), [("base", 80, True), ("base,composed", 216, True), ("base,shapes", 0, True)]
)
def test_the_page_lists_what_the_model_was_trained_on(argument: str, things: int, scenes: bool):
    choices = choices_for(get_config(argument))
    assert len(choices.things) == things and choices.scenes == scenes
    page = render("known.html", choices=choices, shapes=SHAPES, colours=COLOURS, relations=RELATIONS)
    assert ("panda · 熊猫" in page) == bool(things) and "to the left of · 在…的左边" in page and "red · 红色" in page


def test_a_model_of_other_data_is_said_to_know_nothing():
    config = get_config()
    config.data.sources = ({"name": "folder", "path": "mine"},)
    choices = choices_for(config)
    assert choices.things == () and not choices.scenes
