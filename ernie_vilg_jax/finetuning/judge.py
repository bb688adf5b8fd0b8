"""Whether fine-tuning helps: measured while it runs, on a user's images and on what the model could do before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax.data.loader import fixed_of_source
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.model import build_model
from ernie_vilg_jax.paths import write_atomically
from ernie_vilg_jax.pipeline.prompts import Prompt
from ernie_vilg_jax.pipeline.rerank import Scorer
from ernie_vilg_jax.sharding import processes
from ernie_vilg_jax.texts import decode, parse_json
from ernie_vilg_jax.training.validation import make_validation

IMAGES = 32
"""Pairs of image and noise of each loss."""
KEEP = 0.95
"""Share of its old score that a model should keep."""
MEANINGFUL = 0.2
"""Alignment of a model's images from which on it says something: unrelated images have about 0."""
PATIENCE = 3
"""Evaluations without a better score after which training ends."""
NOTE = "judged.json"


class Judge:
    """What the training loop calls to evaluate (`training.loop.Evaluate`). Its scores:

    seen, held_out   loss on own images that are trained on, and on held-out ones
    old              loss on held-out examples of what the model could do before
    alignment        of images of old prompts, if there is a scorer
    kept             the share of `alignment` that is kept of the start, or without it how `old` compares; 1 is all
    gain             by how much `seen` and `held_out` fell since the start, as a share: the mean of both
    score            `gain`, if at least `KEEP` is kept; else how much is missing, below 0

    A loss is the geometric mean over the stages: that of the least noise, which is of textures, is a hundred times that
    of the most noise, which is of what there is in the image, and would decide alone. All are kept in `folder`, also
    those of before the first step, so that a training which resumes goes on with them.

    Args:
      config: of the training. Its data have the source `own`, and the source `old` if anything is rehearsed.
      prompts: old ones, for `alignment`.
      scorer: None if there is none for them.
    """

    higher_is_better = frozenset({"score", "gain", "kept", "alignment"})

    def __init__(
        self,
        config: ConfigDict,
        tokenizer: Tokenizer,
        mesh: Mesh,
        *,
        folder: Path,
        own: str,
        old: str | None,
        prompts: Sequence[Prompt] = (),
        scorer: Scorer | None = None,
    ) -> None:
        self.folder = folder
        self.seen = read_note(folder)
        model = build_model(config)
        splits = {"seen": ("train", own), "held_out": ("holdout", own), **({"old": ("holdout", old)} if old else {})}
        self._sets = {}
        for name, where in splits.items():
            examples = fixed_of_source(config, tokenizer, *where, IMAGES, config.seed)
            if len(examples):
                self._sets[name] = make_validation(config, model, tokenizer, mesh, examples)
        self._prompts, self._scorer = tuple(prompts), scorer if prompts else None
        if self._prompts:
            tokens, masks = zip(*(tokenizer.encode(prompt.text)[:2] for prompt in self._prompts), strict=True)
            self._words = np.stack(tokens), np.stack(masks)

    @property
    def enough(self) -> bool:
        """Whether the last `PATIENCE` evaluations were no better than one before them."""
        return is_enough(self.seen)

    def begin(self, task: Any, state: Any, step: int) -> None:
        """Measures the model before its first step. Forgets evaluations after the step that training resumes from."""
        self.seen = {known: values for known, values in self.seen.items() if known <= step}
        if step == 0:
            self.seen = {0: self._measure(task, state)}
            self._write()
        if 0 not in self.seen:
            raise UserError(f"{self.folder / NOTE} is missing, so nothing is known of the start: take another --output")

    def __call__(self, task: Any, state: Any, step: int) -> dict[str, float]:
        """All scores of the averages."""
        values = compared(self._measure(task, state), self.seen[0])
        warn(step, values, self.seen)
        self.seen[step] = values
        self._write()
        logging.info("step %d: %s", step, "  ".join(f"{name} {value:.4f}" for name, value in values.items()))
        return values

    def _measure(self, task: Any, state: Any) -> dict[str, float]:
        values = {name: over_stages(task.losses(state, images)) for name, images in self._sets.items()}
        if self._scorer is not None and task.makes_images:
            images = [Image.fromarray(image) for image in task.images(state, self._words)]
            values["alignment"] = float(np.mean(self._scorer(images, [prompt.text for prompt in self._prompts])))
        return values

    def _write(self) -> None:
        if processes.index() == 0:
            with file_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                write_atomically(self.folder / NOTE, json.dumps(self.seen, indent=1).encode())


def over_stages(losses: Mapping[str, float]) -> float:
    """The geometric mean of the losses of all stages (`Validator.losses`)."""
    of_stages = [loss for name, loss in losses.items() if name.startswith("loss_stage_")]
    return float(np.exp(np.mean(np.log(of_stages))))


def compared(values: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """The measured values with `kept`, `gain` and `score`, against those of the start."""
    found = dict(values)
    if "alignment" in values and before["alignment"] >= MEANINGFUL:
        found["kept"] = values["alignment"] / before["alignment"]
    elif "old" in values:
        found["kept"] = before["old"] / values["old"]
    own = [1 - values[name] / before[name] for name in ("seen", "held_out") if name in values]
    found["gain"] = float(np.mean(own))
    kept = found.get("kept", 1.0)
    found["score"] = found["gain"] if kept >= KEEP else min(found["gain"], 0.0) + kept - KEEP
    return found


def warn(step: int, values: Mapping[str, float], seen: Mapping[int, Mapping[str, float]]) -> None:
    """Logs a warning if the model forgets, or only learns the images by heart."""
    if values.get("kept", 1.0) < KEEP:
        logging.warning(
            "step %d: the model keeps %.0f%% of what it could do before, less than %.0f%%; this checkpoint does not "
            "count as the best. A lower --learning_rate or a higher --old_share keeps more",
            *(step, 100 * values["kept"], 100 * KEEP),
        )
    least = min((one["held_out"] for one in seen.values() if "held_out" in one), default=None)
    if least is not None and values["held_out"] > 1.03 * least:
        logging.warning(
            "step %d: the loss on held-out images of yours rises (%.4f, it was %.4f): the model begins to learn the "
            "others by heart",
            *(step, values["held_out"], least),
        )


def is_enough(seen: Mapping[int, Mapping[str, float]]) -> bool:
    """Whether the last `PATIENCE` evaluations were no better than one before them."""
    scores = [values["score"] for step, values in sorted(seen.items()) if step]
    return len(scores) > PATIENCE and max(scores[:-PATIENCE]) >= max(scores[-PATIENCE:])


def read_note(folder: Path) -> dict[int, dict[str, float]]:
    """Step -> its values, as an earlier call of the same command wrote them; empty if there was none.

    Raises UserError if the file is damaged.
    """
    file = folder / NOTE
    if not file.is_file():
        return {}
    found = read_json(file)
    try:
        return {int(step): {name: float(value) for name, value in values.items()} for step, values in found.items()}
    except (ValueError, AttributeError) as error:
        raise UserError(f"{file} is not what `finetune` writes ({error}): take another --output") from error


def read_json(file: Path) -> dict[str, Any]:
    """A note of an earlier call. Raises UserError if it is damaged: nothing may begin anew in silence."""
    with file_errors(file):
        data = file.read_bytes()
    try:
        found = parse_json(decode(data, str(file)))
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}): take another --output") from error
    if not isinstance(found, dict):
        raise UserError(f"{file} is not what `finetune` writes: take another --output")
    return found
