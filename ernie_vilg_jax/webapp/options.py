"""The page's options for a checkpoint: the styles and things that it was trained on, and its settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from ernie_vilg_jax import registry
from ernie_vilg_jax.data.sizes import Size, sizes_of
from ernie_vilg_jax.evaluation.prompt_sets import known_things
from ernie_vilg_jax.evaluation.scorers import SCORERS
from ernie_vilg_jax.knowledge.words import LANGUAGES
from ernie_vilg_jax.pipeline.styles import Style, styles_of
from ernie_vilg_jax.preparation.sources.nouns import Noun, alone
from ernie_vilg_jax.sampling_params import SamplingParams, make_params

SCENES = ("红色的圆形在蓝色的正方形的左边", "a yellow star above a green triangle")
EXAMPLE_THINGS = 6


@dataclass(frozen=True)
class Choices:
    """The options of a visitor, and their defaults."""

    styles: Mapping[str, Style]
    """English name -> style."""
    examples: tuple[str, ...]
    """Prompts that the model has learned to draw."""
    params: SamplingParams
    sizes: tuple[Size, ...]
    """Those that it was trained on; the first is the default."""
    scorers: tuple[str, ...] = ()
    """Scorers that may choose among candidates."""
    things: tuple[Noun, ...] = ()
    """Everyday things that it was trained on; none for a model of other data."""
    scenes: bool = False
    """Whether it was trained on scenes of several things in colours."""


def choices_for(config: ConfigDict) -> Choices:
    """The choices for the config that a checkpoint was trained with."""
    sources = {source["name"]: source for source in config.data.sources}
    params = make_params(config.sample, {})
    return Choices(
        styles=styles_of(config),
        examples=_examples(config, sources),
        params=params,
        sizes=sizes_of(config),
        scorers=tuple(name for name in SCORERS if not registry.needs(SCORERS, name, "path")),
        things=tuple(known_things(config)) if {"emoji", "composed"} & set(sources) else (),
        scenes=bool({"scenes", "composed"} & set(sources)),
    )


def _examples(config: ConfigDict, sources: Mapping[str, Any]) -> tuple[str, ...]:
    """The preview prompts, some things of the emoji set, alternately in Chinese and English, and scenes."""
    found = list(config.train.preview_prompts)
    if "emoji" in sources:
        known = known_things(config)
        chosen = known[:: max(1, len(known) // EXAMPLE_THINGS)][:EXAMPLE_THINGS]
        found += [alone(thing, LANGUAGES[place % 2]) for place, thing in enumerate(chosen)]
    if "scenes" in sources:
        found += SCENES
    return tuple(dict.fromkeys(found))
