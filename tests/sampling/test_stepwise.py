"""Sampling step by step: the same latents, each step reported once and in order, and experts freed in streamed mode."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.diffusion.samplers import SAMPLERS, make_sampler
from ernie_vilg_jax.diffusion.schedule import Denoised, make_schedule
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.sampling.inputs import Inputs, Step
from ernie_vilg_jax.sampling.modes import make_executor
from ernie_vilg_jax.sampling.stepwise import Stepped

SCHEDULE = make_schedule("linear", 1000, 1e-4, 2e-2)
UNEVEN = Stages((150, 250, 750), 1000)
EXPERTS = [{"w": np.random.default_rng(k).standard_normal((3, 3)).astype(np.float32)} for k in range(4)]


def ask(params: Any, x: jax.Array, t: jax.Array, text: jax.Array, shared: jax.Array) -> Denoised:
    epsilon = jnp.tanh(x @ params["w"] + shared * text[:, None, None]) + t[:, None, None, None] / 5000
    return SCHEDULE.denoised(x, epsilon, t)


def make_batches(count: int = 2, pictures: int = 3) -> Inputs:
    rng = np.random.default_rng(1)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)  # noqa: E731
    keys = jax.random.split(jax.random.key(3), (count, pictures))
    return Inputs(draw(count, pictures, 4, 4, 3), draw(count, pictures, 3), jnp.float32(0.5), keys)


@pytest.mark.parametrize("name", SAMPLERS)
def test_steps_are_those_of_the_whole_program(name: str) -> None:
    sampler, inputs, steps = make_sampler(name, SCHEDULE, 7), make_batches(), []
    stepped = Stepped(ask, UNEVEN, streamed=True)
    got = stepped(EXPERTS, sampler, inputs, steps.append)
    expected = make_executor("resident", ask, UNEVEN)(EXPERTS, sampler, inputs)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert [step.index for step in steps] == list(range(7))
    assert [step.timestep for step in steps] == sampler.timesteps.tolist()
    assert [step.stage for step in steps] == UNEVEN.stage_of(sampler.timesteps).tolist()
    if name not in ("heun", "dpmpp_2m"):
        # These end at the estimate of their last prediction.
        np.testing.assert_allclose(jnp.stack(steps[-1].x0), got, rtol=1e-5, atol=1e-5)
    assert len({float(step.x0[0].std()) for step in steps}) == 7


def test_look_sees_the_current_expert_and_changes_nothing() -> None:
    sampler, inputs, steps = make_sampler("ddim", SCHEDULE, 5), make_batches(), []
    look = lambda params, x, t, text, shared: (params["w"][0, 0], t, x.mean())  # noqa: E731
    got = Stepped(ask, UNEVEN, look=look)(EXPERTS, sampler, inputs, steps.append)
    np.testing.assert_array_equal(got, Stepped(ask, UNEVEN)(EXPERTS, sampler, inputs, lambda step: None))
    for step in steps:
        corner, t, _ = step.seen[1]
        assert float(corner) == EXPERTS[step.stage]["w"][0, 0]
        assert t.tolist() == [step.timestep] * 3
    np.testing.assert_allclose(steps[0].seen[1][2], inputs.latents[1].mean(), rtol=1e-5)


class Counted:
    """Sources that count the experts on the device."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def source(self, stage: int) -> Any:
        tree = jax.device_put({"w": np.copy(EXPERTS[stage]["w"])})
        self.made.append(tree["w"])
        return tree

    @property
    def alive(self) -> int:
        return sum(not array.is_deleted() for array in self.made)


@pytest.mark.parametrize("fails_at", [None, 0, 3])
def test_streamed_experts_are_freed_even_when_on_step_raises(fails_at: int | None) -> None:
    experts, most = Counted(), []

    def on_step(step: Step) -> None:
        most.append(experts.alive)
        if step.index == fails_at:
            raise KeyboardInterrupt

    stepped, sampler = Stepped(ask, UNEVEN, streamed=True), make_sampler("ddim", SCHEDULE, 7)
    run = partial(stepped, [partial(experts.source, k) for k in range(4)], sampler, make_batches(), on_step)
    if fails_at is None:
        run()
        assert len(experts.made) == 3, "one stage has no steps"
    else:
        with pytest.raises(KeyboardInterrupt):
            run()
    assert max(most) <= 2
    assert experts.alive == 0


def test_resident_experts_stay() -> None:
    experts = [jax.device_put(expert) for expert in EXPERTS]
    stepped, sampler = Stepped(ask, UNEVEN), make_sampler("unipc", SCHEDULE, 7)
    inputs = make_batches()
    first = stepped(experts, sampler, inputs, lambda step: None)
    np.testing.assert_array_equal(first, stepped(experts, sampler, inputs, lambda step: None))


def test_an_image_with_its_own_key_does_not_depend_on_its_batch() -> None:
    sampler, inputs = make_sampler("ddpm", SCHEDULE, 7), make_batches(1, 3)
    sampling = partial(make_executor("resident", ask, UNEVEN), EXPERTS, sampler)
    whole = sampling(inputs)
    alone = jax.tree.map(lambda leaf: leaf[:, 1:2], inputs._replace(shared=None))._replace(shared=inputs.shared)
    np.testing.assert_allclose(sampling(alone)[0, 0], whole[0, 1], rtol=1e-5, atol=1e-5)
    assert float(jnp.abs(whole[0, 1] - whole[0, 0]).max()) > 0.01
