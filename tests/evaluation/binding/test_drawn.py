"""The committed checker, on renders that need no download: drawn shapes."""

import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.binding.drawn import DrawnChecker
from ernie_vilg_jax.evaluation.binding.facts import KINDS, Fact
from ernie_vilg_jax.evaluation.binding.renders import counted, near_miss, scenes, surely_false
from ernie_vilg_jax.evaluation.binding.scorer import BindingScorer


@pytest.fixture(scope="module")
def checker():
    return DrawnChecker()


@pytest.fixture(scope="module")
def renders(checker):
    made = scenes("shapes", checker.nouns, (), 77, 40)
    return made + [counted("shapes", checker.nouns, (), 77, index) for index in range(16)]


def test_renders_are_what_their_facts_say(checker, renders):
    """All facts of 56 renders: at most two wrong (about 99% in benchmarks/binding.py)."""
    judged = checker.check([render.image for render in renders], [render.facts for render in renders])
    wrong = [(k, str(v.fact)) for k, one in enumerate(judged) for v in one.verdicts if not v.true]
    assert {v.fact.kind for one in judged for v in one.verdicts} == set(KINDS)
    assert len(wrong) <= 2, wrong


def test_false_facts_are_seen_to_be_false(checker, renders):
    rng = np.random.default_rng(0)
    false = [[near_miss(fact, render.facts, checker.nouns, rng) for fact in render.facts] for render in renders]
    for k, render in enumerate(renders):
        false[k] += [fact for fact in renders[k - 7].facts if surely_false(fact, render.facts)]
    judged = checker.check([render.image for render in renders], false)
    true = [(k, str(v.fact)) for k, one in enumerate(judged) for v in one.verdicts if v.true]
    assert len(true) <= 2, true


def test_a_judgement_does_not_depend_on_the_rest_of_the_call(checker, renders):
    some = renders[:5]
    together = checker.check([render.image for render in some], [render.facts for render in some])
    for render, judged in zip(some, together, strict=True):
        (alone,) = checker.check([render.image], [render.facts])
        assert [v.probability for v in alone.verdicts] == [v.probability for v in judged.verdicts]


def test_images_of_other_sizes_are_judged_as_their_middle_square(checker, renders):
    render = renders[0]
    large = Image.fromarray(render.image).resize((192, 192), Image.Resampling.LANCZOS)
    wide = Image.new("RGB", (240, 192), "white")
    wide.paste(large, (24, 0))
    for image in (large, wide):
        (judged,) = checker.check([np.asarray(image)], [render.facts])
        assert judged.all_right


def test_noise_and_emptiness_show_nothing(checker):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    blank = np.full((64, 64, 3), 255, np.uint8)
    facts = [Fact("object", noun.en) for noun in checker.nouns]
    for judged in checker.check([noise, blank], [facts, facts]):
        assert not any(verdict.true for verdict in judged.verdicts)


@pytest.mark.parametrize(
    ("fact", "message"),
    [(Fact("object", "kimono"), "does not know 'kimono'"), (Fact("colour", "cat", "white"), "colour 'white'")],
)
def test_what_it_does_not_know_is_refused(checker, fact, message):
    with pytest.raises(UserError, match=message):
        checker.check([np.zeros((64, 64, 3), np.uint8)], [[fact]])


@pytest.mark.parametrize("image", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32)])
def test_arrays_that_are_no_images_are_refused(checker, image):
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
        checker.check([image], [()])


def test_other_files_are_refused(tmp_path):
    file = tmp_path / "x.safetensors"
    with pytest.raises(UserError, match=r"x\.safetensors"):
        DrawnChecker(file)
    file.write_bytes(b"not safetensors")
    with pytest.raises(UserError, match=r"evaluation\.binding\.train"):
        DrawnChecker(file)


def test_the_scorer_prefers_the_image_that_shows_the_prompt(checker, renders):
    pair = [render for render in renders if render.relation and len(render.mentions) == 2][:2]
    scorer = BindingScorer(checker=checker)
    for own, other in (pair, pair[::-1]):
        first, second = own.mentions
        relation = {"left": "to the left of", "right": "to the right of"}.get(own.relation, own.relation)
        prompt = f"a {first.colour} {first.noun} {relation} a {second.colour} {second.noun}"
        good, bad = scorer([Image.fromarray(one.image) for one in (own, other)], [prompt, prompt])
        assert good > 0.5 > bad
