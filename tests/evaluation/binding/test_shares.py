"""The metric `binding` on folders of images."""

import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.binding.facts import facts_from
from ernie_vilg_jax.evaluation.binding.grammar import facts_of
from ernie_vilg_jax.evaluation.binding.nouns import EVERYDAY_NOUNS, SHAPE_NOUNS
from ernie_vilg_jax.evaluation.binding.renders import scenes
from ernie_vilg_jax.evaluation.binding.sentences import sentences
from ernie_vilg_jax.evaluation.binding.shares import shares
from ernie_vilg_jax.evaluation.image_sets import of_prompts
from ernie_vilg_jax.evaluation.metrics import Evidence, judge
from ernie_vilg_jax.pipeline.prompts import Prompt

NAMES = {noun.en: noun for noun in (*SHAPE_NOUNS, *EVERYDAY_NOUNS)}


def made(folder, texts, images):
    prompts = [Prompt(f"p{k}", text, "en") for k, text in enumerate(texts)]
    for prompt, image in zip(prompts, images, strict=True):
        Image.fromarray(image).save(folder / f"{prompt.id}.png")
    return of_prompts(folder, prompts)


@pytest.fixture
def few():
    """Scenes of two shapes, with their sentences."""
    renders = [render for render in scenes("shapes", SHAPE_NOUNS, (), 91, 20) if len(render.mentions) == 2][:6]
    return renders, [sentences(r.mentions, r.relation, NAMES)["en"][0] for r in renders]


def test_right_images_and_images_of_other_prompts(few, tmp_path):
    renders, texts = few
    texts = [*texts, "a bowl of petunias"]
    right = made(tmp_path, texts, [*(r.image for r in renders), renders[0].image])
    values = shares(right)
    assert np.nanmean(values[""]) > 0.8 and np.isnan(values[""][-1])
    assert np.isnan(values["count"]).all()
    (tmp_path / "other").mkdir()
    turned = made(tmp_path / "other", texts, [*(r.image for r in renders[1:]), renders[0].image, renders[0].image])
    assert np.nanmean(shares(turned)[""]) == 0


def test_the_metric_counts_the_images_it_understands(few, tmp_path):
    renders, texts = few
    folder = made(tmp_path, [*texts, "fog"], [*(r.image for r in renders), renders[0].image])
    scores = {score.metric: score for score in judge(["binding"], Evidence(folder, None, {}))}
    assert set(scores) == {"binding", "binding_object", "binding_colour", "binding_relation"}
    assert scores["binding"].count == 6 and scores["binding"].value > 0.8


def test_prompts_of_another_kind_are_refused(tmp_path):
    with pytest.raises(UserError, match="none of the prompts is understood"):
        shares(made(tmp_path, ["a bowl of petunias"], [np.zeros((8, 8, 3), np.uint8)]))


def test_sentences_state_what_the_renders_show(few):
    for render, text in zip(*few, strict=True):
        assert set(facts_of(text)) == set(facts_from(render.mentions, render.relation))
