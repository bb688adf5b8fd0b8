"""What a model could do before: prompts of it, and examples to show it again while it learns new things."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from ernie_vilg_jax.data.records import open_split
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.evaluation import prompt_sets
from ernie_vilg_jax.evaluation.making import Subject
from ernie_vilg_jax.finetuning.origin import Origin
from ernie_vilg_jax.finetuning.unseen import words_of
from ernie_vilg_jax.knowledge.words import LANGUAGES, language_of
from ernie_vilg_jax.paths import write_atomically
from ernie_vilg_jax.pipeline.prompts import Prompt, read_prompts
from ernie_vilg_jax.preparation.sources.composed.captions import plain_caption
from ernie_vilg_jax.preparation.sources.composed.source import ComposedSource
from ernie_vilg_jax.preparation.splits import is_held_out

SAMPLE_STEPS = 25
MOST_RECORDS = 2000
MOST_CAPTIONS = 20_000
"""Old records whose words are counted."""
CAPTIONS = "captions.jsonl"
IN_DOMAIN = ("emoji", "scenes", "composed")
"""Sources of the demo's domain: the alignment scorer knows what they show."""


class OldPrompts(NamedTuple):
    """Prompts that a model knows.

    Attributes:
      judged: for measuring what it keeps.
      rehearsed: those that it makes images of, to be shown them again; the judged ones are among them, but what is
        judged is made from other noise.
      in_domain: whether the measures of the demo's domain (alignment) say something about them.
    """

    judged: list[Prompt]
    rehearsed: list[Prompt]
    in_domain: bool


def old_prompts(origin: Origin, file: str | None, judged: int, rehearsed: int, seed: int) -> OldPrompts:
    """Prompts from `file`, or of the domain of the model's sources, or its training captions, or its example prompts.

    Args:
      file: as `pipeline.prompts.read_prompts` takes it, of the flag --old_prompts.
      judged, rehearsed: how many are drawn, by the seed.
    """
    domain = domain_prompts(origin.config, rehearsed)
    if file is not None:
        found = read_prompts(file, flag="old_prompts", seed=seed)
    elif domain:
        found = domain
    elif origin.data is not None:
        found = _captions(origin.data, rehearsed, seed)
    else:
        texts = origin.config.train.preview_prompts
        found = [Prompt(f"example_{number:03d}", text, language_of(text)) for number, text in enumerate(texts)]
    if len(found) < 2:
        raise UserError(
            f"--from={origin.given} has no prompts of its own to look after: name a file of prompts that it knows with "
            "--old_prompts=FILE, or do without with --old_share=0"
        )
    order = np.random.default_rng(seed).permutation(len(found))
    cut = min(judged, len(found) // 2)
    chosen = [found[place] for place in order]
    return OldPrompts(chosen[:cut], chosen[:rehearsed], bool(domain))


def domain_prompts(config: ConfigDict, count: int) -> list[Prompt]:
    """Prompts of the demo's domain that a model was trained on: all of a small domain, `count` of composed scenes.

    Empty for models of other sources.
    """
    names = {source["name"] for source in config.data.sources}
    if "composed" in names:
        return composed_prompts(config, count)
    return prompt_sets.prompt_set("demo", config) if names & set(IN_DOMAIN) else []


def seen_words(origin: Origin) -> set[str] | None:
    """The words of a model's captions, or of its domain's prompts if it has no data here; None if neither is known."""
    if origin.data is None:
        texts = [prompt.text for prompt in domain_prompts(origin.config, MOST_CAPTIONS)]
    else:
        records = open_split(origin.data, "train", verify=False)
        read = (records[index].captions for index in range(min(len(records), MOST_CAPTIONS)))
        texts = (text for captions in read for several in captions.values() for text in several)
    return {word for text in texts for word in words_of(text)} or None


def composed_prompts(config: ConfigDict, count: int) -> list[Prompt]:
    """Captions of scenes that a model of the composed source was trained on, in turn in both languages."""
    options = next(dict(source) for source in config.data.sources if source["name"] == "composed")
    things, looks = (tuple(options.get(name, ())) for name in ("things", "looks"))
    source, found = ComposedSource(seed=int(options.get("seed", 0)), things=things, looks=looks), dict[str, None]()
    for index in range(20 * count):
        plan = source.plan(index)
        if not any(is_held_out(unit, float(config.data.holdout_fraction)) for unit in plan.units):
            found[plain_caption(plan, LANGUAGES[len(found) % 2], style=index % 4 == 0)] = None
        if len(found) == count:
            break
    return [Prompt(f"scene_{number:05d}", text, language_of(text)) for number, text in enumerate(found)]


def _captions(data: Path, count: int, seed: int) -> list[Prompt]:
    """Captions of a model's training data, one of each record that is drawn, in turn of both languages."""
    records = open_split(data, "train", verify=False)
    drawn = np.random.default_rng(seed).permutation(len(records))[:count]
    found: dict[str, None] = {}
    for number, index in enumerate(drawn):
        captions = records[int(index)].captions
        there = [language for language in LANGUAGES if captions.get(language)]
        found[captions[there[number % len(there)]][0]] = None
    return [Prompt(f"old_{number:05d}", text, language_of(text)) for number, text in enumerate(found)]


def make_samples(origin: Origin, prompts: Sequence[Prompt], folder: Path, seed: int) -> Path:
    """The model's own images of prompts, as a folder that `preparation` reads; those that are there are kept."""
    made = Subject.of(str(origin.path), "resident", None).make(
        prompts, folder / "images", {"steps": SAMPLE_STEPS}, seed=seed
    )
    rows = [
        {"file": f"images/{prompts[number].id}_0.png", prompts[number].language: prompts[number].text}
        for number in made.own
    ]
    with file_errors(folder):
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        write_atomically(folder / CAPTIONS, f"{lines}\n".encode())
    return folder


def rehearsal(origin: Origin, prompts: Sequence[Prompt], folder: Path, seed: int) -> ConfigDict:
    """The source of what the model is shown again: records of its own data if they are here, else its own images."""
    if origin.data is not None:
        logging.info("old data are shown again, from %s", origin.data)
        return ConfigDict({"name": "records", "path": str(origin.data), "count": MOST_RECORDS, "seed": seed})
    logging.info("the model's data are not here, so it is shown its own images of %d prompts again", len(prompts))
    return ConfigDict({"name": "samples", "path": str(make_samples(origin, prompts, folder, seed))})
