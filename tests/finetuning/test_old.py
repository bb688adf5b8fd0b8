"""What is rehearsed: prompts of a model's domain, its records, its own images."""

import json
from pathlib import Path
from typing import Any

import pytest
from etils import epath

from configs.demo import get_config
from ernie_vilg_jax.data.records import open_split
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.finetuning import old
from ernie_vilg_jax.finetuning.old import composed_prompts, old_prompts, rehearsal, seen_words
from ernie_vilg_jax.finetuning.origin import Origin
from ernie_vilg_jax.preparation.sources import Source, make_source
from ernie_vilg_jax.preparation.sources.composed.source import ComposedSource
from ernie_vilg_jax.preparation.splits import is_held_out
from tests.small_data import picture, records_of


def origin(variant: str = "", data: Path | None = None, sources: Any = None) -> Origin:
    config = get_config(variant or None)
    if sources is not None:
        config.data.sources = sources
    tokenizer: Any = None
    return Origin("runs/x", epath.Path("runs/x"), config, "experts", "abc", tokenizer, data)


@pytest.mark.parametrize("variant", ["", "shapes", "composed"])
def test_prompts_of_the_domain(variant: str) -> None:
    found = old_prompts(origin(variant), None, 20, 50, seed=3)
    texts = [[prompt.text for prompt in prompts] for prompts in (found.judged, found.rehearsed)]
    assert found.in_domain and [len(set(one)) for one in texts] == [20, 50] and set(texts[0]) < set(texts[1])
    assert {prompt.language for prompt in found.judged} == {"zh", "en"}
    assert old_prompts(origin(variant), None, 20, 50, seed=3) == found
    assert old_prompts(origin(variant), None, 20, 50, seed=4) != found


def test_composed_prompts_are_of_trained_combinations(monkeypatch: pytest.MonkeyPatch) -> None:
    config = get_config("composed")
    config.data.holdout_fraction = 0.2
    plans = []
    make = ComposedSource.plan
    monkeypatch.setattr(ComposedSource, "plan", lambda self, index: plans.append(make(self, index)) or plans[-1])
    assert len(composed_prompts(config, 30)) == 30
    assert sum(not any(is_held_out(unit, 0.2) for unit in plan.units) for plan in plans) >= 30 < len(plans)


def test_other_models_are_judged_by_their_captions_or_examples(prepared: Path, tmp_path: Path) -> None:
    found = old_prompts(origin(sources=(), data=prepared), None, 4, 8, seed=0)
    records = open_split(prepared, "train")
    captions = {
        text
        for record in map(records.__getitem__, range(len(records)))
        for texts in record.captions.values()
        for text in texts
    }
    assert not found.in_domain and len(found.judged) == 4 and {one.text for one in found.judged} <= captions
    examples = old_prompts(origin(sources=()), None, 4, 100, seed=0)
    assert {one.text for one in [*examples.judged, *examples.rehearsed]} == set(get_config().train.preview_prompts)
    (tmp_path / "x.txt").write_text("one\ntwo\nthree\n")
    given = old_prompts(origin(), str(tmp_path / "x.txt"), 1, 5, seed=0)
    assert {one.text for one in [*given.judged, *given.rehearsed]} == {"one", "two", "three"}


def test_a_model_without_prompts_says_what_to_do() -> None:
    bare = origin(sources=())
    bare.config.train.preview_prompts = ()
    with pytest.raises(UserError, match=r"--from=runs/x has no prompts .* --old_prompts=FILE, or .* --old_share=0"):
        old_prompts(bare, None, 4, 8, seed=0)


def test_old_records_are_drawn_by_the_seed(prepared: Path, tmp_path: Path) -> None:
    options = rehearsal(origin(data=prepared), [], tmp_path, seed=5)
    assert options["name"] == "records" and options["path"] == str(prepared) and not list(tmp_path.iterdir())
    source: Source = make_source({**options.to_dict(), "count": 7}, size=16)
    records = records_of(source)
    assert len(records) == 7 and len({record.concept for record in records}) == 7
    assert records_of(source) == records
    assert {record.source for record in records} == {"records"}
    before = open_split(prepared, "train")
    images = {f"records/{before[index].id}": before[index].image for index in range(len(before))}
    assert all(images[record.id] == record.image for record in records)
    other = make_source({**options.to_dict(), "count": 7, "seed": 6}, size=16)
    assert records_of(other) != records and other.fingerprint() != source.fingerprint()
    assert source.licences()


def test_without_its_data_a_model_is_shown_its_own_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Subject:
        @staticmethod
        def of(checkpoint: str, mode: str, mesh: Any) -> Any:
            assert checkpoint == "runs/x"
            return Subject()

        def make(self, prompts: Any, folder: Path, options: Any, *, seed: int) -> Any:
            folder.mkdir(parents=True)
            for number, prompt in enumerate(prompts):
                (folder / f"{prompt.id}_0.png").write_bytes(picture(f"hsl({40 * number}, 100%, 50%)"))
            self.own = range(len(prompts))
            return self

    monkeypatch.setattr(old, "Subject", Subject)
    prompts = old_prompts(origin(), None, 1, 6, seed=0).rehearsed
    options = rehearsal(origin(), prompts, tmp_path / "old", seed=0)
    rows = [json.loads(line) for line in (tmp_path / "old/captions.jsonl").read_text().splitlines()]
    assert [row[prompt.language] for row, prompt in zip(rows, prompts, strict=True)] == [one.text for one in prompts]
    source = make_source(options.to_dict(), size=16)
    assert source.name == "samples"
    assert [record.source for record in records_of(source)] == ["samples"] * 6


def test_words_that_a_model_saw(prepared: Path) -> None:
    of_things, of_records = seen_words(origin()), seen_words(origin(sources=(), data=prepared))
    assert of_things and {"panda", "熊", "猫", "triangle"} <= of_things and "quetzal" not in of_things
    assert of_records and {"a", "red", "circle", "圆"} <= of_records and "panda" not in of_records
    assert seen_words(origin(sources=())) is None
