"""Evaluation of the averages while they are trained: images of a fixed set of prompts, made and judged on the mesh."""

from typing import Any

import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax import checks
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation import evaluate, image_sets, metrics, scorers
from ernie_vilg_jax.evaluation.on_mesh import on_mesh
from ernie_vilg_jax.knowledge.words import language_of
from ernie_vilg_jax.pipeline.prompts import Prompt, read_prompts


class Evaluator:
    """Scores of a task's images, as the training loop calls it (`training.loop.Evaluate`).

    Args:
      config: its section `evaluation` says what to judge and how.
      tokenizer: of the model in training.

    Raises UserError for metrics, prompts or weights that are not there: at the start, not at the first evaluation.
    """

    def __init__(self, config: ConfigDict, tokenizer: Tokenizer, mesh: Mesh) -> None:
        settings, flag = config.evaluation, "config.evaluation"
        for name in ("num_images", "steps"):
            checks.whole(f"--{flag}.{name}={settings[name]}", settings[name], 1)
        self._names = tuple(settings.metrics)
        needed = evaluate.needed(self._names, True, f"{flag}.metrics")
        self.higher_is_better = metrics.higher_is_better(self._names)
        paths = scorers.paths_of(settings.weights, f"{flag}.weights")
        self._networks = {name: on_mesh(scorers.network(name, paths), mesh) for name in needed}
        self._reference = None
        if any(metric.compares for metric in metrics.chosen(self._names).values()):
            real = image_sets.reference_of(settings.reference or config.data.path, "holdout", f"{flag}.reference")
            self._reference = metrics.Reference(real, self._networks)
        self._prompts = _prompts(config)
        self._own = np.repeat(np.arange(len(self._prompts)), settings.num_images)
        encoded = [tokenizer.encode(self._prompts[number].text)[:2] for number in self._own]
        tokens, masks = zip(*encoded, strict=True)
        self._words = np.stack(tokens), np.stack(masks)
        self._told = False

    enough = False
    """It never ends a training."""

    def begin(self, task: Any, state: Any, step: int) -> None:
        """Nothing is measured before the first step."""

    def __call__(self, task: Any, state: Any, step: int) -> dict[str, float]:
        """The scores of all images, by the names of their metrics; none while experts are missing."""
        if not task.makes_images:
            if not self._told:
                logging.info("no evaluation: this job does not train the expert of every stage")
                self._told = True
            return {}
        made = image_sets.Arrays(task.images(state, self._words))
        evidence = metrics.Evidence(
            image_sets.OfPrompts(made, self._prompts, self._own), self._reference, self._networks
        )
        scores = [score for score in metrics.judge(self._names, evidence) if not score.group]
        logging.info("step %d evaluation: %s", step, ", ".join(map(evaluate.told, scores)))
        return {score.metric: score.value for score in scores}


def _prompts(config: ConfigDict) -> tuple[Prompt, ...]:
    if config.evaluation.prompts:
        return tuple(read_prompts(config.evaluation.prompts, flag="config.evaluation.prompts"))
    texts = config.train.preview_prompts
    if not texts:
        raise UserError(
            "--config.evaluation.prompts: there are no prompts to evaluate; name a file of them, or prompts in "
            "--config.train.preview_prompts"
        )
    return tuple(Prompt(f"{number:05d}", text, language_of(text)) for number, text in enumerate(texts))
