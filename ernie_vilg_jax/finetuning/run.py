"""The parts of `python -m ernie_vilg_jax.finetune`, each also alone:

    origin = Origin.of("demo")                                   # a run, a checkpoint, an export, or the demo
    data = prepare_data(origin, "my_images", "runs/mine/data", settings)
    told = tell_words(origin, data)                              # words that the model never saw
    tune(origin, data, "runs/mine", settings, old)               # the best is runs/mine/best
    show(origin, data, "runs/mine", old.judged)                  # grid.png, prompts.txt

`finetune` does all of it, and goes on where it stopped.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.manifests import read_manifest
from ernie_vilg_jax.data.records import Record, open_split
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.evaluation.alignment.network import AlignmentScorer
from ernie_vilg_jax.finetuning import judge, unseen
from ernie_vilg_jax.finetuning.check import check_training
from ernie_vilg_jax.finetuning.judge import Judge, read_json
from ernie_vilg_jax.finetuning.messages import naming_flags
from ernie_vilg_jax.finetuning.old import OldPrompts, old_prompts, rehearsal, seen_words
from ernie_vilg_jax.finetuning.origin import Origin
from ernie_vilg_jax.finetuning.settings import Settings, tuning_config
from ernie_vilg_jax.finetuning.show import show
from ernie_vilg_jax.interop import lora
from ernie_vilg_jax.knowledge.words import LANGUAGES
from ernie_vilg_jax.model import build_model
from ernie_vilg_jax.paths import local, write_atomically
from ernie_vilg_jax.preparation.prepare import prepare
from ernie_vilg_jax.training.train import run as train

OWN = "folder"
"""Source of the user's images in the data."""
JUDGED, REHEARSED = 48, 256
"""Old prompts to measure with, and to make images of, at most."""
SETTINGS = "finetune.json"


class Result(NamedTuple):
    """What came of a fine-tuning.

    Attributes:
      best: step of the best checkpoint; 0 if none was better than the model before.
      scores: of the best, as `Judge` names them; of the start if there is none.
    """

    best: int
    scores: dict[str, float]


@naming_flags()
def finetune(
    given: str, images: str | Path, output: str | Path, settings: Settings, prompts_file: str | None = None
) -> Result:
    """Fine-tunes the model `given` on a folder of captioned images; writes everything below `output`.

    The same call goes on where an earlier one stopped. Raises UserError for anything that a user can fix,
    training.loop.Stopped after SIGTERM (a checkpoint is saved).
    """
    folder, origin = local(output, "output"), Origin.of(given)
    check_training(origin, settings)  # before anything is noted of a folder that is then begun with other settings
    same_settings(folder, {"--from": origin.fingerprint, **{f"--{name}": one for name, one in settings.told().items()}})
    old, source = None, None
    if settings.old_share:
        old = old_prompts(origin, prompts_file, JUDGED, REHEARSED, settings.seed)
        source = rehearsal(origin, old.rehearsed, folder / "old", settings.seed)
    data = prepare_data(origin, images, folder / "data", settings, source)
    same_settings(folder, {"content of --images": read_manifest(data)["fingerprint"]})
    tell_words(origin, data)
    tune(origin, data, folder, settings, old)
    result = outcome(folder)
    if result.best:
        if settings.method == "lora":
            write_lora(folder)
        show(origin, data, folder, old.judged if old else (), OWN)
    return result


def same_settings(folder: Path, told: dict[str, Any]) -> None:
    """Notes how a folder is made, beside what is noted already. Raises UserError if it was begun otherwise."""
    file, told = folder / SETTINGS, json.loads(json.dumps(told))
    with file_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        before = read_json(file) if file.is_file() else {}
        for name, value in told.items():
            if before.get(name, value) != value:
                raise UserError(
                    f"--output={folder} was begun with another {name} ({before[name]!r:.60}, now {value!r:.60}): give "
                    "that, or another --output"
                )
        write_atomically(file, json.dumps(before | told, ensure_ascii=False, indent=1).encode())


@naming_flags()
def prepare_data(
    origin: Origin, images: str | Path, output: str | Path, settings: Settings, old: ConfigDict | None = None
) -> Path:
    """The user's images, and the source `old` of what is rehearsed, as records; annotated if the model needs that.

    Returns the folder: `output`, or `annotated` beside it.
    """
    output, config = Path(output), origin.config.copy_and_resolve_references()
    own = ConfigDict({"name": OWN, "path": str(local(images, "images")), "on_mismatch": "error"})
    words = output.parent / "tokenizer"
    origin.tokenizer.save(words)
    with config.unlocked(), config.ignore_type():
        config.data.sources = (own, *([old] if old else []))
        config.data.holdout_fraction, config.data.num_shards = settings.holdout, 1
        config.tokenizer.path = str(words)
    prepare(config, output, own_data=True)
    if not _sources(output)[OWN]:
        raise UserError(
            f"--holdout={settings.holdout} holds all of your images out: lower it, and give another --output"
        )
    if not settings.uses_knowledge(origin):
        return output
    from ernie_vilg_jax.annotation.annotate import annotate

    annotated = output.parent / "annotated"
    annotate(str(output), str(annotated))
    return annotated


def own_records(data: str | Path, split: str = "train", source: str = OWN) -> list[Record]:
    """The user's records in a split."""
    if not read_manifest(data)["splits"].get(split, {}).get("records"):
        return []
    records = open_split(data, split, verify=False)
    return [records[index] for start, stop in records.positions.get(source, ()) for index in range(start, stop)]


def tell_words(origin: Origin, data: str | Path) -> Counter[str]:
    """Counts the words of the user's captions that the model never saw, and says so before the training."""
    records = [record for split in ("train", "holdout") for record in own_records(data, split)]
    texts = sorted({text for one in records for language in LANGUAGES for text in one.captions.get(language, ())})
    words = unseen.unseen_words(texts, seen_words(origin), origin.tokenizer)
    unseen.tell(words, texts)
    return words


def tune(origin: Origin, data: str | Path, output: str | Path, settings: Settings, old: OldPrompts | None) -> None:
    """Trains in `output`, with the judge; ends at once if an earlier call was enough."""
    folder = Path(output)
    if judge.is_enough(judge.read_note(folder)):
        logging.info("%s: nothing got better at the end of the training, so it does not go on", folder)
        return
    sources = [name for name, count in _sources(data).items() if count]
    rehearsed = next((name for name in sources if name != OWN), None)
    weights = {OWN: 1 - settings.old_share, rehearsed: settings.old_share} if rehearsed else {OWN: 1.0}
    config = tuning_config(origin, settings, str(data), weights)
    scorer = AlignmentScorer() if old is not None and old.in_domain else None
    make: Any = partial(Judge, folder=folder, own=OWN, old=rehearsed, prompts=old.judged if old else (), scorer=scorer)
    with naming_flags(config.phases[origin.phase].batch_size):
        train(config, folder, evaluator=make)


def _sources(data: str | Path) -> dict[str, int]:
    """Source -> its records in the split `train`."""
    found: Counter[str] = Counter()
    for shard in read_manifest(data)["splits"]["train"]["shards"]:
        found.update(dict(shard["sources"]))
    return found


def outcome(output: str | Path) -> Result:
    """What came of the fine-tuning in a folder; told in the log."""
    folder = Path(output)
    seen = judge.read_note(folder)
    tried = {step: values for step, values in seen.items() if step and values["score"] > 0}
    if not tried:
        logging.warning(
            "fine-tuning made the model no better: none of %d checkpoints predicts your images better and keeps %.0f%% "
            "of what it could do; try a lower --learning_rate, a higher --old_share, more images, or --steps",
            *(len(seen) - 1, 100 * judge.KEEP),
        )
        return Result(0, seen.get(0, {}))
    best = max(tried, key=lambda step: tried[step]["score"])
    values = tried[best]
    kept = f", and {values['kept']:.0%} of its old score" if "kept" in values else ""
    logging.info(
        "the best is step %d: the loss on your images fell by %.0f%%%s; use it with --checkpoint=%s/best",
        *(best, 100 * values["gain"], kept, folder),
    )
    return Result(best, values)


def write_lora(output: str | Path) -> Path:
    """Writes the best adapters of a run as a .safetensors file beside it."""
    folder = Path(output)
    path = checkpointing.find(folder / "best")
    config = checkpointing.read_config(path, default_config())
    model = build_model(config)
    size = lora.write_file(folder / lora.FILE, lora.of_checkpoint(path, config, model), model)
    logging.info("%s: %.1f MB", folder / lora.FILE, size / 2**20)
    return folder / lora.FILE
