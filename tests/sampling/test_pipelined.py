"""Pipelined sampling: the images of the resident mode, the schedule, and where experts are."""

from functools import partial

import jax
import numpy as np
import pytest

from ernie_vilg_jax.forecast.hlo import Program
from ernie_vilg_jax.sampling.pipelined import IDLE, Pipelined, bubble, draw, places, stack_experts, timetable
from ernie_vilg_jax.sharding.mesh import AXES
from tests.sampling.toys import (
    DETERMINISTIC,
    STOCHASTIC,
    TOYS,
    UNEVEN,
    UNIFORM,
    WIDE,
    ask,
    ask_toy,
    bytes_of,
    first,
    make_inputs,
    mesh_of,
    reference,
    unet_experts,
)


@pytest.mark.parametrize("batches", [1, 3, 4, 5])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_pipelined_is_resident(groups: int, batches: int) -> None:
    """With history, stages of different lengths and one without steps."""
    mesh = mesh_of(expert=groups)
    pipelined = Pipelined(ask_toy, UNEVEN, mesh)
    got = pipelined(stack_experts(TOYS, mesh), DETERMINISTIC, first(make_inputs(5), batches))
    np.testing.assert_allclose(got, reference(DETERMINISTIC, UNEVEN)[:batches], rtol=1e-5, atol=1e-5)


def test_the_schedule_as_drawn() -> None:
    expected = """
tick       0  1  2  3  4  5  6  7
group 3    0  1  2  3  4  .  .  .
group 2    .  0  1  2  3  4  .  .
group 1    .  .  0  1  2  3  4  .
group 0    .  .  .  0  1  2  3  4
idle: 37.5%"""
    assert draw(timetable(4, 5)) == expected[1:]


@pytest.mark.parametrize("groups", [1, 2, 4, 5, 10])
@pytest.mark.parametrize("batches", [1, 2, 4, 7, 10, 23])
def test_every_group_works_but_for_fill_and_drain(groups: int, batches: int) -> None:
    table = timetable(groups, batches)
    for batch in range(batches):
        ticks, at = np.nonzero(table == batch)
        np.testing.assert_array_equal(at, np.arange(groups)[::-1])
        np.testing.assert_array_equal(np.diff(ticks), 1)
    between = table[groups - 1 : batches]
    assert (between != IDLE).all()
    assert len(table) == batches + groups - 1
    assert bubble(table) == pytest.approx((groups - 1) / (batches + groups - 1))
    # The queue loses nothing, and holds no more batches than it has to.
    for rows in places(groups, batches):
        assert len(rows) < batches + groups
    waiting, ended = places(groups, batches)
    assert sorted(waiting[waiting != IDLE]) == list(range(batches))
    assert sorted(ended[ended != IDLE]) == list(range(batches))


def test_nothing_of_an_expert_moves_and_each_group_holds_its_own() -> None:
    """By the compiled program: the traffic across the expert axis, and the memory of a device."""
    mesh, inputs = mesh_of(expert=4, data=2), make_inputs(4, side=8)
    pipelined = Pipelined(partial(ask, WIDE), UNIFORM, mesh)
    bank = stack_experts(unet_experts(WIDE), mesh)
    course = pipelined.course(STOCHASTIC)
    with jax.set_mesh(mesh):
        queue = pipelined._enter(4, STOCHASTIC, inputs.latents, inputs.text, inputs.keys)
        compiled = pipelined.program.lower(4, bank, course, inputs.shared, queue).compile()

    crossing = [one for one in Program(compiled.as_text()).collectives if one.crosses(mesh.devices.shape, 0)]
    assert AXES[0] == "expert" and crossing
    assert {one.kind for one in crossing} == {"collective-permute"}
    travelling = {leaf.sharding.shard_shape(leaf.shape)[1:] for leaf in jax.tree.leaves(queue)}
    assert {shape for one in crossing for _, shape in one.shapes} <= travelling
    assert max(one.bytes for one in crossing) <= bytes_of(inputs.latents[0])

    memory, own, batch = compiled.memory_analysis(), bytes_of(bank) / 4, bytes_of(queue) / 4
    tables = bytes_of(STOCHASTIC)
    assert own <= memory.argument_size_in_bytes < own + batch + tables + 1000
    assert memory.argument_size_in_bytes + memory.temp_size_in_bytes < 1.1 * own, "the rest is activations"


def test_a_bank_is_laid_out_by_groups() -> None:
    mesh = mesh_of(expert=2, data=2)
    bank = stack_experts([partial(dict, toy) for toy in TOYS], mesh)
    np.testing.assert_array_equal(bank["w"], np.stack([toy["w"] for toy in TOYS]))
    assert bank["w"].sharding.shard_shape(bank["w"].shape) == (2, 3, 3)
