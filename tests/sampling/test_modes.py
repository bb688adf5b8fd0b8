"""Resident, streamed and pipelined sampling make the same images; modes that do not fit."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.diffusion.guidance import Guidance, guided
from ernie_vilg_jax.diffusion.loop import visits
from ernie_vilg_jax.diffusion.samplers import DDIM, SAMPLERS, make_sampler
from ernie_vilg_jax.diffusion.schedule import Denoised
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.models.text_encoder import Text
from ernie_vilg_jax.sampling.inputs import Inputs
from ernie_vilg_jax.sampling.modes import check_mode, make_executor
from ernie_vilg_jax.sampling.pipelined import Pipelined, stack_experts
from ernie_vilg_jax.sampling.streamed import Streamed
from tests.sampling.toys import (
    PICTURES,
    SCHEDULE,
    SMALL,
    STEPS,
    STOCHASTIC,
    TOYS,
    UNEVEN,
    UNIFORM,
    ask,
    ask_toy,
    first,
    make_inputs,
    mesh_of,
    reference,
    unet_experts,
)


@pytest.mark.parametrize(
    "eta", [pytest.param(0.0, id="ddim", marks=pytest.mark.proofs), pytest.param(1.0, id="stochastic")]
)
def test_three_modes_make_the_same_images(eta: float) -> None:
    """A U-Net with guidance; pipelined also with the images and the weights of each group cut over its devices."""
    predict, sampler, inputs = partial(ask, SMALL), DDIM(SCHEDULE, STEPS, eta), make_inputs(3)
    experts = unet_experts(SMALL)
    sampling = partial(make_executor, predict=predict, stages=UNIFORM)
    resident = np.asarray(sampling("resident")(experts, sampler, inputs))
    assert resident.std() > 0.1
    scale = np.abs(resident).max()
    np.testing.assert_allclose(sampling("streamed")(experts, sampler, inputs) / scale, resident / scale, atol=1e-5)
    mesh = mesh_of(expert=4) if eta else mesh_of(expert=2, data=2, tensor=2)
    pipelined = sampling("pipelined", mesh=mesh)(stack_experts(experts, mesh), sampler, inputs)
    np.testing.assert_allclose(pipelined / scale, resident / scale, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"ddim"}))
def test_every_sampler_in_three_modes(name: str) -> None:
    """With any history, and any number of predictions per step; the second stage begins with history."""
    sampler, inputs = make_sampler(name, SCHEDULE, 7, grid="trailing"), first(make_inputs(5), 3)
    expected = reference(sampler, UNEVEN)[:3]
    streamed = make_executor("streamed", ask_toy, UNEVEN)(TOYS, sampler, inputs)
    np.testing.assert_allclose(streamed, expected, rtol=1e-5, atol=1e-5)
    mesh = mesh_of(expert=2, data=2)
    pipelined = make_executor("pipelined", ask_toy, UNEVEN, mesh=mesh)(stack_experts(TOYS, mesh), sampler, inputs)
    np.testing.assert_allclose(pipelined, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("guidance", "other"),
    [
        (Guidance(3.0), Guidance(1.5)),
        (Guidance(1.0, dynamic_threshold=80.0), Guidance(1.0, dynamic_threshold=95.0)),
        (
            Guidance(interval=(100, 800), rescale=0.7, dynamic_threshold=90.0, stage_scales=(1.0, 2.0, 3.0, 4.0)),
            Guidance(5.0, interval=(300, 600), rescale=0.3, dynamic_threshold=99.0),
        ),
    ],
    ids=["plain", "threshold alone", "all of it"],
)
def test_guidance_in_three_modes(guidance: Guidance, other: Guidance) -> None:
    """Every image has its own negative prompt, which moves with it; and new numbers do not recompile."""
    mesh, sampler, traces = mesh_of(expert=2, data=2), DDIM(SCHEDULE, STEPS), []

    def predict(params: Any, x: jax.Array, t: jax.Array, text: Text) -> jax.Array:
        traces.append(x.shape[0])
        push = text.pooled[:, None, None, :3]
        return 0.5 * jnp.tanh(x @ params["w"] + push) + 0.5 * x + t[:, None, None, None] / 5000

    def ask(params: Any, x: jax.Array, t: jax.Array, text: tuple[Text, Text], shared: Any) -> Denoised:
        return guided(partial(predict, params), *text, shared, SCHEDULE)(x, t)

    plain, negative = make_inputs(2), make_inputs(3)
    texts = plain.text, jax.tree.map(lambda leaf: leaf[1:], negative.text)
    modes = {
        "resident": (make_executor("resident", ask, UNIFORM), TOYS),
        "streamed": (make_executor("streamed", ask, UNIFORM), TOYS),
        "pipelined": (make_executor("pipelined", ask, UNIFORM, mesh=mesh), stack_experts(TOYS, mesh)),
    }
    ends: dict[str, list[np.ndarray]] = {mode: [] for mode in modes}
    for asked in (guidance, other):
        traces.clear()
        for mode, (sampling, experts) in modes.items():
            inputs = Inputs(plain.latents, texts, asked.numbers(UNIFORM), plain.keys)
            ends[mode].append(np.asarray(sampling(experts, sampler, inputs)))
        if asked is guidance:
            assert set(traces) == {PICTURES * (1 if guidance.scale == 1 else 2)}
    assert not traces, "the second guidance has the form of the first"
    for mode in ("streamed", "pipelined"):
        np.testing.assert_allclose(ends[mode], ends["resident"], rtol=1e-5, atol=1e-5)
    one, two = ends["resident"]
    assert np.abs(one - two).max() > 0.01


def test_stages_of_the_uneven_cut() -> None:
    """The assumption of the tests above."""
    assert [(stage, end - first) for stage, first, end in visits(UNEVEN, STEPS)] == [(3, 2), (2, 4), (0, 1)]


@pytest.mark.parametrize(
    ("mode", "n", "sizes", "message"),
    [
        ("magic", 4, None, "mode='magic' must be one of resident, streamed, pipelined"),
        ("pipelined", 4, None, "mesh={'expert': 2}, mesh={'expert': 4}, or mode='streamed'"),
        ("pipelined", 4, {"data": 2}, "mode='pipelined' needs groups of devices that share the 4 experts"),
        ("pipelined", 3, {"expert": 2}, "use mesh={'expert': 3}, or"),
        ("pipelined", 1, None, "this model has one; use mode='resident'"),
        (
            "streamed",
            4,
            {"expert": 2},
            "mode='streamed' takes no groups of devices; give mesh={'data': 2}, or mode='pipelined' with mesh=",
        ),
    ],
)
def test_modes_that_do_not_fit_are_refused(mode: str, n: int, sizes: dict[str, int] | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_mode(mode, n, None if sizes is None else mesh_of(**sizes))


def test_wrong_numbers_of_experts_are_refused() -> None:
    with pytest.raises(ValueError, match="4 stages need 4 experts, but 3"):
        Streamed(ask_toy, UNIFORM)(TOYS[:3], STOCHASTIC, make_inputs(1))
    mesh = mesh_of(expert=2)
    with pytest.raises(ValueError, match="a bank of 4"):
        Pipelined(ask_toy, UNIFORM, mesh)(stack_experts(TOYS[:2], mesh), STOCHASTIC, make_inputs(1))
    with pytest.raises(ValueError, match="4 experts cannot be divided among 3 groups"):
        Pipelined(ask_toy, UNIFORM, mesh_of(expert=3))
