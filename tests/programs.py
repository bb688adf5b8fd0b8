"""Runs of equal configs share their programs within a process: tracing and loading them is most of a tiny run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from ernie_vilg_jax.config import as_json
from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.sampling import modes
from ernie_vilg_jax.sampling.inputs import Executor
from ernie_vilg_jax.training.autoencoder import AutoencoderTask
from ernie_vilg_jax.training.diffusion import DiffusionTask
from ernie_vilg_jax.training.validation import Validator

SHARED = {
    AutoencoderTask: ("initial", "train_step", "errors_of"),
    DiffusionTask: ("initial", "train_step"),
    Validator: ("losses_of", "sample", "sample_piece"),
}
"""Properties that hold a jitted function. What shapes its arguments have, jax itself tells apart."""
OTHERWISE = ("name", "data", "train", "seed")
"""Sections of a config that decide what a program is given, and how often it runs, but not what it is."""

_made: dict[Any, Any] = {}


def forget() -> None:
    _made.clear()


@contextmanager
def shared() -> Iterator[None]:
    """In this block; not for tests that replace parts of a program."""
    before = {(owner, name): vars(owner)[name] for owner, names in SHARED.items() for name in names}
    for (owner, name), made in before.items():
        setattr(owner, name, property(_once(made)))
    try:
        yield
    finally:
        for (owner, name), made in before.items():
            setattr(owner, name, made)


def make_executor(mode: str, predict: Any, stages: Stages, *, look: Any, **how: Any) -> Executor:
    """`modes.make_executor`, once for all generators of equal models: takes the place of `generator.make_executor`."""
    (model,) = predict.args
    key = mode, model, stages, look and look.args[0].func, *how.items()
    if key not in _made:
        _made[key] = modes.make_executor(mode, predict, stages, look=look, **how)
    return _made[key]


def _once(make: cached_property[Any]) -> Callable[[Any], Any]:
    def found(self: Any) -> Any:
        sections = {name: value for name, value in as_json(self.config).items() if name not in OTHERWISE}
        phase = sections.pop("phases")[self.config.phase]
        if not phase["decay_steps"]:
            del phase["steps"]
        words = sections.pop("tokenizer")
        what = digest([sections, phase, words["vocab_size"], words["max_length"]])
        key = type(self), make.attrname, what, self.mesh, self.model.remat
        if key not in _made:
            _made[key] = make.func(self)
        return _made[key]

    return found
