"""How many images show what their prompts say: the values behind the metric."""

from __future__ import annotations

import numpy as np

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.binding import Checker
from ernie_vilg_jax.evaluation.binding.drawn import BATCH, DrawnChecker
from ernie_vilg_jax.evaluation.binding.facts import KINDS
from ernie_vilg_jax.evaluation.binding.grammar import understood
from ernie_vilg_jax.evaluation.image_sets import OfPrompts, pixels


def shares(made: OfPrompts, checker: Checker | None = None) -> dict[str, np.ndarray]:
    """Values [N] of the images: "" = 1 if all facts are right, else 0; of each kind of fact, the share that is right.

    NaN where a prompt states no such fact, or is not understood. Raises UserError if no prompt is understood.
    """
    checker = checker or DrawnChecker()
    facts = [understood(prompt.text, checker.nouns) for prompt in made.prompts]
    if not any(facts):
        raise UserError(
            "binding: none of the prompts is understood; it judges prompts such as "
            f'"a red circle to the left of a blue square", of {", ".join(noun.en for noun in checker.nouns)}'
        )
    values = {kind: np.full(len(made.own), np.nan) for kind in ("", *KINDS)}
    asked = [image for image, prompt in enumerate(made.own) if facts[prompt]]
    for start in range(0, len(asked), BATCH):
        part = asked[start : start + BATCH]
        judgements = checker.check([pixels(made.images, k) for k in part], [facts[made.own[k]] for k in part])
        for image, judged in zip(part, judgements, strict=True):
            values[""][image] = judged.all_right
            for kind in KINDS:
                own = [verdict.true for verdict in judged.verdicts if verdict.fact.kind == kind]
                values[kind][image] = np.mean(own) if own else np.nan
    return values
