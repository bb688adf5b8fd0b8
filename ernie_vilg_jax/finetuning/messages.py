"""What the libraries say of the config and the run behind a fine-tuning, in terms of the flags of `finetune`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from jax.errors import JaxRuntimeError

from ernie_vilg_jax.errors import UserError

FLAGS = {
    "seed": "seed",
    "knowledge.enabled": "knowledge",
    "knowledge.special_tokens": "knowledge",
    "data.sources": "images",
    "data.weights": "old_share",
    "data.holdout_fraction": "holdout",
    "data.path": "output",
    "tokenizer.path": "output",
    "phases.init_from": "from",
    "phases.steps": "steps",
    "phases.warmup_steps": "steps",
    "phases.batch_size": "batch_size",
    "phases.learning_rate": "learning_rate",
    "experts.train": "experts",
    "experts.train_text_encoder": "text_encoder",
    "lora.rank": "rank",
    "lora.targets": "targets",
    "lora.text_targets": "text_targets",
    "train.log_every": "every",
    "train.checkpoint_every": "every",
    "evaluation.every": "every",
}
"""Field of the config -> the flag that decides it; `phases.` is the section of the phase that is trained."""
_FIELD = re.compile(r"(?<![\w./-])(?:--)?config((?:\.\w+)+)")
_GOES_ON = re.compile(r", or go on with --allow_changes=\S+")
_NUMBERS = re.compile(r"(--experts=)\(([\d, ]*?),?\)")


def as_flags(message: str) -> str:
    """`message` with our flags in place of fields of the config; a field that no flag decides is the model's."""
    message = _FIELD.sub(lambda found: _named(found[1][1:]), message)
    message = _NUMBERS.sub(lambda found: found[1] + found[2].replace(" ", ""), message)
    message = _GOES_ON.sub("", message).replace("--workdir", "--output")
    # A folder keeps its settings, so that with another rate it is another folder.
    return re.sub(r"^(.*is not finite.*), then run the same command again$", r"\1, and give another --output", message)


def _named(field: str) -> str:
    flag = FLAGS.get(re.sub(r"^phases\.\w+\.", "phases.", field))
    return f"--{flag}" if flag else f"the model's config.{field}"


@contextmanager
def naming_flags(batch_size: int = 0) -> Iterator[None]:
    """A context in which errors that users can fix name the flags of `finetune`.

    Args:
      batch_size: of a training; then running out of a device's memory is such an error, too.
    """
    try:
        yield
    except UserError as error:
        raise type(error)(as_flags(str(error))) from error
    except JaxRuntimeError as error:
        if not batch_size or "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(f"--batch_size={batch_size} takes more memory than a device has: lower it") from error
