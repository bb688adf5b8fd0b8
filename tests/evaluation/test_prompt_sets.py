"""Sets of prompts of the demo's domain: complete, in both languages, and what the checker understands."""

from collections import Counter

import pytest

from configs.demo import THINGS, get_config
from ernie_vilg_jax.evaluation.binding.composed import COMPOSED_NOUNS
from ernie_vilg_jax.evaluation.binding.drawn import DrawnChecker
from ernie_vilg_jax.evaluation.binding.grammar import facts_of
from ernie_vilg_jax.evaluation.prompt_sets import FREE, PAIRS, SETS, prompt_set
from ernie_vilg_jax.preparation.sources.composed.vocabulary import THINGS as COMPOSED


@pytest.mark.parametrize("name", [name for name in SETS if name != "composed"])
def test_ids_are_unique_and_languages_are_those_of_the_texts(name: str) -> None:
    prompts = prompt_set(name, get_config())
    assert len({prompt.id for prompt in prompts}) == len(prompts)
    assert all((prompt.language == "zh") == any("\u4e00" <= c <= "\u9fff" for c in prompt.text) for prompt in prompts)


def test_things_are_those_of_the_config_once_in_each_language() -> None:
    prompts = prompt_set("things", get_config())
    assert len(prompts) == 2 * len(THINGS)
    assert Counter(prompt.language for prompt in prompts) == {"en": len(THINGS), "zh": len(THINGS)}
    assert {"a panda", "一只熊猫"} <= {prompt.text for prompt in prompts}
    assert len(prompt_set("things", None)) > len(prompts)


@pytest.mark.proofs
def test_a_model_of_composed_scenes_is_asked_for_its_own_things_and_for_combinations() -> None:
    config = get_config("base,composed")
    alone = [thing.noun for thing in COMPOSED.values() if not thing.shape]
    things = prompt_set("things", config)
    assert len(things) == 2 * len(alone) and {"a panda", "一只熊猫"} <= {prompt.text for prompt in things}
    config.data.sources[0]["things"] = ("circle", "panda", "cat")
    assert [prompt.text for prompt in prompt_set("things", config)] == ["a panda", "一只熊猫", "a cat", "一只猫"]
    counts = Counter(prompt.category for prompt in prompt_set("demo", get_config("base,composed")))
    assert counts["one thing"] == len(things) and {"one shape", "two shapes", "relation", "count"} <= set(counts)


def test_shapes_are_all_of_them_and_pairs_with_another_colour_and_shape() -> None:
    prompts = prompt_set("shapes", None)
    kinds = Counter(prompt.category for prompt in prompts)
    assert kinds["two shapes"] == PAIRS and kinds["one shape"] == len(prompts) - PAIRS
    assert prompts == prompt_set("shapes", get_config())


@pytest.mark.parametrize("name", ["things", "shapes"])
def test_the_checker_understands_every_prompt_of_the_demo(name: str) -> None:
    checker = DrawnChecker()
    for prompt in prompt_set(name, get_config("base,composed")):
        facts = facts_of(prompt.text, checker.nouns)
        kinds = {fact.kind for fact in facts}
        assert "object" in kinds
        assert ("relation" in kinds) == (prompt.category == "two shapes")


def test_free_prompts_are_asked_four_times_each() -> None:
    prompts = prompt_set("free", None)
    assert len(prompts) == 4 * len(FREE) == 56
    assert set(Counter(prompt.text for prompt in prompts).values()) == {4}


def test_composed_prompts_are_of_all_categories_and_the_checker_understands_them() -> None:
    prompts = prompt_set("composed", get_config("base,composed"))
    assert set(Counter(prompt.category for prompt in prompts)) == {"colour", "two things", "relation", "count", "style"}
    for prompt in prompts:
        kinds = {fact.kind for fact in facts_of(prompt.text, COMPOSED_NOUNS)}
        assert prompt.category in {*kinds, "two things", "style"}, prompt.text
