"""Prompts are read as the facts that they state."""

import itertools

import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.binding.facts import Fact, Mention, facts_from, facts_of_plan
from ernie_vilg_jax.evaluation.binding.grammar import facts_of
from ernie_vilg_jax.evaluation.binding.nouns import COCO_NOUNS, EVERYDAY_NOUNS, SHAPE_NOUNS
from ernie_vilg_jax.evaluation.binding.sentences import INVERSE, sentences
from ernie_vilg_jax.preparation.sources.scenes import RELATIONS, SceneSource, captions

NOUNS = {noun.en: noun for noun in (*SHAPE_NOUNS, *EVERYDAY_NOUNS)}


def objects(*nouns):
    return {Fact("object", noun) for noun in nouns}


def relation(first, side, second, colour="", other_colour=""):
    return Fact("relation", first, colour, 0, side, second, other_colour)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("red circle", {*objects("circle"), Fact("colour", "circle", "red")}),
        ("红色圆形", {*objects("circle"), Fact("colour", "circle", "red")}),
        ("A red apple.", objects("red apple")),  # the colour belongs to its name
        ("红苹果", objects("red apple")),
        ("an orange", objects("orange")),
        ("an orange orange", {*objects("orange"), Fact("colour", "orange", "orange")}),
        (
            "a red circle to the right of a blue square",
            {
                *objects("circle", "square"),
                *(Fact("colour", "circle", "red"), Fact("colour", "square", "blue")),
                relation("circle", "right", "square"),
            },
        ),
        ("a cat is on top of a dog", {*objects("cat", "dog"), relation("cat", "above", "dog")}),
        ("猫的左边是一只狗", {*objects("cat", "dog"), relation("dog", "left", "cat")}),
        ("猫在左边，狗在右边", {*objects("cat", "dog"), relation("cat", "left", "dog")}),
        ("上面是猫，下面是狗", {*objects("cat", "dog"), relation("cat", "above", "dog")}),
        (
            "两个红色的圆形",
            {*objects("circle"), Fact("colour", "circle", "red", 2), Fact("count", "circle", number=2)},
        ),
        (
            "three yellow birds",
            {*objects("bird"), Fact("colour", "bird", "yellow", 3), Fact("count", "bird", number=3)},
        ),
        ("two slices of pizza", {*objects("slice of pizza"), Fact("count", "slice of pizza", number=2)}),
        ("一只猫", objects("cat")),  # 一只 is an article here
        ("只有一只猫", {*objects("cat"), Fact("count", "cat", number=1)}),
        ("exactly one cat", {*objects("cat"), Fact("count", "cat", number=1)}),
        (
            "one cat and two dogs",
            {*objects("cat", "dog"), Fact("count", "cat", number=1), Fact("count", "dog", number=2)},
        ),
        ("一只猫，立体风格", objects("cat")),
        (
            "a red circle above a blue circle",
            {
                *objects("circle"),
                *(Fact("colour", "circle", "red"), Fact("colour", "circle", "blue")),
                relation("circle", "above", "circle", "red", "blue"),
            },
        ),
        (
            "two red circles and one blue circle",
            {
                *objects("circle"),
                *(Fact("colour", "circle", "red", 2), Fact("colour", "circle", "blue", 1)),
                Fact("count", "circle", number=3),
            },
        ),
    ],
)
def test_what_a_prompt_states(prompt, expected):
    assert set(facts_of(prompt)) == expected


@pytest.mark.parametrize("number", [0, 1, 2, 4])
@pytest.mark.parametrize("colour", ["", "orange"])
def test_every_name_is_read_in_both_languages(number, colour):
    for noun in NOUNS.values():
        mentions = [Mention(noun.en, colour, number)]
        for text in itertools.chain(*sentences(mentions, "", NOUNS).values()):
            assert facts_of(text, tuple(NOUNS.values())) == facts_from(mentions), text


@pytest.mark.parametrize("side", RELATIONS)
@pytest.mark.parametrize(("first", "second"), [("cat", "circle"), ("red apple", "slice of pizza"), ("grapes", "ring")])
def test_relations_are_read_from_either_side(first, second, side):
    mentions = [Mention(first, "green"), Mention(second, "", 2)]
    for text in itertools.chain(*sentences(mentions, side, NOUNS).values()):
        facts = set(facts_of(text))
        turned = relation(second, INVERSE[side], first)
        assert relation(first, side, second) in facts or turned in facts, text
        assert {Fact("colour", first, "green"), Fact("count", second, number=2)} <= facts


@pytest.mark.parametrize("index", range(12))
def test_captions_of_the_scenes_source_state_the_plan(index):
    plan = SceneSource(seed=3).plan(index)
    expected = {fact for fact in facts_of_plan(plan) if fact.kind != "relation"}
    for text in itertools.chain(*captions(plan).values()):
        found = facts_of(text)
        assert {fact for fact in found if fact.kind != "relation"} == expected
        relations = [fact for fact in found if fact.kind == "relation"]
        assert len(relations) == len(plan.things) - 1
        names = [thing.noun.en for thing in plan.things]
        for fact in relations:
            forwards = names.index(fact.noun) < names.index(fact.other)
            assert fact.relation == (plan.relation if forwards else INVERSE[plan.relation])


@pytest.mark.parametrize(
    "prompt", ["", "a purple", "a bibble", "a red circle near a blue square", "五个圆形", "红色的"]
)
def test_what_is_not_understood_is_refused_with_the_place(prompt):
    with pytest.raises(UserError, match="not understood at"):
        facts_of(prompt)


def test_only_the_given_things_are_known():
    with pytest.raises(UserError, match="'a circle'"):
        facts_of("a circle", COCO_NOUNS)


@pytest.mark.parametrize("name", ["kimono", "bow and arrow"])
def test_a_name_may_hold_a_word_that_joins_lists(name):
    noun = NOUNS[name]
    assert set(facts_of(noun.zh)) == set(facts_of(f"a {noun.en}")) == objects(name)
