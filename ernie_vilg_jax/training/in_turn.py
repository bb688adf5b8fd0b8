"""A training step of a bank on CPUs: one program, run once for each expert, in place of a loop in one program.

In a loop XLA runs a convolution on one CPU thread; outside one it would compile a copy of the step for each expert.
With the demo's four experts on two cores, a step in a loop takes 2.4 times as long, and copies take four times as long
to compile.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.sharding.compiler_options import compiler_options
from ernie_vilg_jax.training import step
from ernie_vilg_jax.training.step import Setup
from ernie_vilg_jax.training.task import Batch, State

PLATFORMS = ("cpu",)
"""Where that is so."""


def is_faster(setup: Setup) -> bool:
    """Whether a step is faster this way. Groups of experts are one program everywhere (`step.each_group`)."""
    in_groups = setup.mesh.shape["expert"] > 1
    return len(setup.trained) > 1 and not in_groups and setup.mesh.devices.flat[0].platform in PLATFORMS


class InTurn:
    """`step.train_step`, with the same arguments and results.

    `lower` and `trace` are those of the step as one program.

    Args:
      whole: that program, jitted.
      shardings: of the state.
    """

    def __init__(self, setup: Setup, whole: Any, shardings: State) -> None:
        self.lower, self.trace = whole.lower, whole.trace
        everywhere = rules.replicated(setup.mesh)
        expert = jax.tree.map(
            lambda bank: NamedSharding(setup.mesh, PartitionSpec(*bank.spec[1:])), shardings["experts"]
        )
        text_grads = shardings["text_encoder"]["params"] if setup.trains_text_encoder else None

        def start(state: State, batch: Batch) -> Any:
            return step.begin(setup, state, batch), step.no_gradients(setup, step.frozen_parts(setup, state))

        def finish(state: State, turns: list[Any], text_grads: Any) -> tuple[State, dict[str, jax.Array]]:
            experts, losses, norms = jax.tree.map(lambda *each: jnp.stack(each), *turns)
            return step.finish(setup, state, experts, text_grads, losses, norms)

        self._frozen = partial(step.frozen_parts, setup)
        self._start = jax.jit(start, out_shardings=(None, text_grads))
        self._turn = jax.jit(
            partial(step.update_expert, setup),
            donate_argnames="text_grads",
            out_shardings=(expert, text_grads, everywhere, everywhere),
            compiler_options=compiler_options(setup.mesh),
        )
        # The bank of before is not needed any more: its memory is that of the new one.
        self._finish = jax.jit(finish, donate_argnums=0, keep_unused=True, out_shardings=(shardings, everywhere))

    def __call__(self, state: State, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
        shares, text_grads = self._start(state, batch)
        shares, frozen, turns = (*shares, step.adapted(state)), self._frozen(state), []
        for k in range(len(shares[1])):
            expert, text_grads, *more = self._turn(
                frozen, state["step"], state["experts"], shares, np.int32(k), text_grads
            )
            turns.append((expert, *more))
        return self._finish(state, turns, text_grads)
