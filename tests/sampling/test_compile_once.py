"""Steps, grids and numbers of a sampler are data: a program is compiled once for each sampler, and makes the images of
the program that has them inside."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from ernie_vilg_jax.diffusion.loop import sample
from ernie_vilg_jax.diffusion.samplers import GRIDS, SAMPLERS, Sampler, make_sampler
from ernie_vilg_jax.sampling.modes import make_executor
from ernie_vilg_jax.sampling.pipelined import stack_experts
from tests.sampling.toys import SCHEDULE, TOYS, UNEVEN, ask_toy, first, make_inputs, mesh_of

INPUTS = first(make_inputs(5), 1)
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "ddim": [{"eta": 0.3}, {"eta": 1.0}],
    "ddpm": [{"variance": "large"}],
}
"""Options of samplers that are numbers."""


def variants(name: str) -> list[Sampler]:
    """Samplers of a name with all counts from 1 to 50, grids, strengths and numbers."""
    grids = list(GRIDS)
    counts = [make_sampler(name, SCHEDULE, steps, grid=grids[steps % len(grids)]) for steps in range(1, 51)]
    starts = [make_sampler(name, SCHEDULE, 10, start=start) for start in (0.1, 0.5)]
    return counts + starts + [make_sampler(name, SCHEDULE, 9, **options) for options in VARIANTS.get(name, [])]


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_program_for_all_steps_grids_and_numbers(name: str, compiled: Callable[[], Any]) -> None:
    sampling = partial(make_executor("resident", ask_toy, UNEVEN), TOYS)
    with compiled() as programs:
        sampling(make_sampler(name, SCHEDULE, 5), INPUTS)
    assert programs, "or this proves nothing"
    with compiled() as programs:
        ends = [np.asarray(sampling(sampler, INPUTS)) for sampler in variants(name)]
    assert programs == []
    assert len({end.tobytes() for end in ends}) == len(ends), "and yet each is another"


@pytest.mark.parametrize("mode", ["streamed", "pipelined", "watched"])
def test_and_in_the_other_modes(mode: str, compiled: Callable[[], Any]) -> None:
    mesh = mesh_of(expert=2) if mode == "pipelined" else None
    how = {"watched": mode == "watched", "mesh": mesh}
    experts = TOYS if mesh is None else stack_experts(TOYS, mesh)
    sampling = partial(make_executor(mode if mode != "watched" else "resident", ask_toy, UNEVEN, **how), experts)
    sampling(make_sampler("unipc", SCHEDULE, 5), INPUTS)
    with compiled() as programs:
        for sampler in variants("unipc")[::10]:
            sampling(sampler, INPUTS)
    assert programs == []


@pytest.mark.parametrize("name", SAMPLERS)
def test_data_make_what_constants_make(name: str) -> None:
    """To the bit: the rows past the last step are never read, and the numbers are the same."""
    rest = [*next(INPUTS.batches()), INPUTS.shared]
    for sampler in (make_sampler(name, SCHEDULE, 7, **options) for options in ({}, *VARIANTS.get(name, []))):

        def inside(sampler: Sampler, experts: Any, latents: Any, text: Any, key: Any, shared: Any) -> jax.Array:
            return sample(experts, partial(ask_toy, text=text, shared=shared), UNEVEN, sampler, latents, key)

        got = make_executor("resident", ask_toy, UNEVEN)(TOYS, sampler, INPUTS)[0]
        np.testing.assert_array_equal(got, jax.jit(partial(inside, sampler))(TOYS, *rest))
