"""Resident, streamed and pipelined sampling: the same images, and the memory and traffic of each."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from ernie_vilg_jax.diffusion.guidance import Guidance, guided
from ernie_vilg_jax.diffusion.loop import visits
from ernie_vilg_jax.diffusion.samplers import DDIM, SAMPLERS, Sampler, make_sampler, time_grid
from ernie_vilg_jax.diffusion.schedule import Denoised, make_schedule
from ernie_vilg_jax.diffusion.stages import Stages, make_stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.forecast.hlo import Program
from ernie_vilg_jax.models.text_encoder import Text
from ernie_vilg_jax.models.unet import UNet
from ernie_vilg_jax.sampling.inputs import Inputs
from ernie_vilg_jax.sampling.modes import check_mode, make_executor
from ernie_vilg_jax.sampling.pipelined import IDLE, Pipelined, bubble, draw, places, stack_experts, timetable
from ernie_vilg_jax.sampling.streamed import Streamed
from ernie_vilg_jax.sampling.turns import Turns, to_host
from ernie_vilg_jax.sharding.mesh import AXES, make_mesh

SCHEDULE = make_schedule("linear", 1000, 1e-4, 2e-2)
UNIFORM = make_stages("uniform", 4, SCHEDULE)
# Its stages have 1, 0, 4 and 2 steps of the seven: different counts, and one without any.
UNEVEN = Stages((150, 250, 750), 1000)
STEPS = time_grid("trailing", 7, SCHEDULE)
PICTURES, LENGTH, WIDTH = 2, 5, 6


class History(NamedTuple):
    x: jax.Array
    epsilon: jax.Array
    used: jax.Array  # a scalar, unlike the others


class TwoStep:
    """DDIM on an extrapolated epsilon: like any multi-step solver it keeps the previous prediction."""

    timesteps = STEPS

    def init(self, latents: jax.Array) -> History:
        return History(latents, jnp.zeros_like(latents), jnp.zeros((), jnp.int32))

    def step(self, predict: Callable, carry: History, i: jax.Array, key: jax.Array) -> History:
        epsilon = predict(carry.x, jnp.asarray(STEPS)[i]).epsilon
        used = jnp.where(carry.used > 0, 1.5 * epsilon - 0.5 * carry.epsilon, epsilon)
        ddim, told = DDIM(SCHEDULE, STEPS), lambda x, t: SCHEDULE.denoised(x, used, t)
        return History(ddim.step(told, ddim.init(carry.x), i, key).x, epsilon, carry.used + 1)

    def finish(self, carry: History) -> jax.Array:
        return carry.x


def make_unet(channels: int) -> UNet:
    shape = {"channel_multipliers": (1, 2), "num_res_blocks": 1, "attention_downsamplings": (2,), "head_channels": 8}
    return UNet(base_channels=channels, latent_channels=3, **shape)


SMALL = make_unet(8)
WIDE = make_unet(64)
"""Its weights (13 MB) are many times larger than its activations."""


def unet_experts(module: UNet) -> tuple[Any, ...]:
    text = Text(jnp.zeros((1, LENGTH, WIDTH)), jnp.ones((1, LENGTH), bool), jnp.zeros((1, WIDTH)))
    inputs = jnp.zeros((1, 4, 4, 3)), jnp.zeros(1, jnp.int32)
    shapes: Any = jax.eval_shape(lambda key: module.init(key, *inputs, *text), jax.random.key(0))
    draw = lambda rng, leaf: (0.2 * rng.standard_normal(leaf.shape)).astype(np.float32)  # noqa: E731
    return tuple(jax.tree.map(partial(draw, np.random.default_rng(k)), shapes["params"]) for k in range(4))


def ask(module: UNet, params: Any, x: jax.Array, t: jax.Array, text: Text, shared: Any) -> Denoised:
    predict: Any = lambda x, t, text: module.apply({"params": params}, x, t, *text)  # noqa: E731
    null_text, scale = shared
    return guided(predict, text, null_text, scale, SCHEDULE)(x, t)


def ask_toy(params: Any, x: jax.Array, t: jax.Array, text: Text, shared: Any) -> Denoised:
    null, scale = shared
    push = scale * (text.pooled[:, :3] - null.pooled[:, :3])
    epsilon = jnp.tanh(x @ params["w"] + push[:, None, None]) + t[:, None, None, None] / 5000
    return SCHEDULE.denoised(x, epsilon, t)


TOYS = [{"w": np.random.default_rng(k).standard_normal((3, 3)).astype(np.float32)} for k in range(4)]


def make_inputs(count: int, side: int = 4) -> Inputs:
    rng = np.random.default_rng(1)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)  # noqa: E731

    def text(*lead: int) -> Text:
        seen = jnp.asarray(rng.integers(1, LENGTH, lead))[..., None] > jnp.arange(LENGTH)
        return Text(draw(*lead, LENGTH, WIDTH), seen, draw(*lead, WIDTH))

    keys = jax.random.split(jax.random.key(3), count)
    return Inputs(draw(count, PICTURES, side, side, 3), text(count, PICTURES), (text(1), jnp.float32(3.0)), keys)


def mesh_of(**sizes: int) -> Mesh:
    return make_mesh({"data": 1, **sizes}, jax.devices()[: int(np.prod(list(sizes.values())))])


@cache
def reference(sampler: Sampler, stages: Stages) -> np.ndarray:
    """The resident mode's results for five batches of the toy."""
    return np.asarray(make_executor("resident", ask_toy, stages, sampler)(TOYS, make_inputs(5)))


DETERMINISTIC, STOCHASTIC = TwoStep(), DDIM(SCHEDULE, STEPS, eta=1.0)


def first(inputs: Inputs, count: int) -> Inputs:
    """The first `count` of the batches, to compare with those among five."""
    cut: Any = jax.tree.map(lambda leaf: leaf[:count], inputs._replace(shared=None))
    return cut._replace(shared=inputs.shared)


@pytest.mark.parametrize("batches", [1, 3, 4, 5])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_pipelined_is_resident(groups: int, batches: int) -> None:
    """With history, stages of different lengths and one without steps."""
    mesh = mesh_of(expert=groups)
    pipelined = Pipelined(ask_toy, UNEVEN, DETERMINISTIC, mesh)
    got = pipelined(stack_experts(TOYS, mesh), first(make_inputs(5), batches))
    np.testing.assert_allclose(got, reference(DETERMINISTIC, UNEVEN)[:batches], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 1.0], ids=["ddim", "stochastic"])
def test_three_modes_make_the_same_images(eta: float) -> None:
    """A U-Net with guidance; pipelined also with the images and the weights of each group cut over its devices."""
    predict, sampler, inputs = partial(ask, SMALL), DDIM(SCHEDULE, STEPS, eta), make_inputs(3)
    experts = unet_experts(SMALL)
    sampling = partial(make_executor, predict=predict, stages=UNIFORM, sampler=sampler)
    resident = np.asarray(sampling("resident")(experts, inputs))
    assert resident.std() > 0.1
    scale = np.abs(resident).max()
    np.testing.assert_allclose(sampling("streamed")(experts, inputs) / scale, resident / scale, atol=1e-5)
    mesh = mesh_of(expert=4) if eta else mesh_of(expert=2, data=2, tensor=2)
    pipelined = sampling("pipelined", mesh=mesh)(stack_experts(experts, mesh), inputs)
    np.testing.assert_allclose(pipelined / scale, resident / scale, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"ddim"}))
def test_every_sampler_in_three_modes(name: str) -> None:
    """With any history, and any number of predictions per step; the second stage begins with history."""
    sampler, inputs = make_sampler(name, SCHEDULE, 7, grid="trailing"), first(make_inputs(5), 3)
    expected = reference(sampler, UNEVEN)[:3]
    streamed = make_executor("streamed", ask_toy, UNEVEN, sampler)(TOYS, inputs)
    np.testing.assert_allclose(streamed, expected, rtol=1e-5, atol=1e-5)
    mesh = mesh_of(expert=2, data=2)
    pipelined = make_executor("pipelined", ask_toy, UNEVEN, sampler, mesh=mesh)(stack_experts(TOYS, mesh), inputs)
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
        "resident": (make_executor("resident", ask, UNIFORM, sampler), TOYS),
        "streamed": (make_executor("streamed", ask, UNIFORM, sampler), TOYS),
        "pipelined": (make_executor("pipelined", ask, UNIFORM, sampler, mesh=mesh), stack_experts(TOYS, mesh)),
    }
    ends: dict[str, list[np.ndarray]] = {mode: [] for mode in modes}
    for asked in (guidance, other):
        traces.clear()
        for mode, (sampling, experts) in modes.items():
            inputs = Inputs(plain.latents, texts, asked.numbers(UNIFORM), plain.keys)
            ends[mode].append(np.asarray(sampling(experts, inputs)))
        if asked is guidance:
            assert set(traces) == {PICTURES * (1 if guidance.scale == 1 else 2)}
    assert not traces, "the second guidance has the form of the first"
    for mode in ("streamed", "pipelined"):
        np.testing.assert_allclose(ends[mode], ends["resident"], rtol=1e-5, atol=1e-5)
    one, two = ends["resident"]
    assert np.abs(one - two).max() > 0.01


# ---- streamed ------------------------------------------------------------------------------------------------------


def origins(kind: str, mesh: Mesh) -> list[Any]:
    if kind == "functions":
        return [partial(jax.tree.map, np.copy, toy) for toy in TOYS]
    if kind == "cut over a mesh":
        return [jax.device_put(toy, jax.NamedSharding(mesh, jax.P(None, "tensor"))) for toy in TOYS]
    return [{"numpy": lambda tree: tree, "host": to_host, "device": jax.device_put}[kind](toy) for toy in TOYS]


@pytest.mark.parametrize("kind", ["numpy", "host", "device", "functions", "cut over a mesh"])
def test_streamed_is_resident_wherever_experts_come_from(kind: str) -> None:
    mesh = mesh_of(data=2, tensor=3)
    streamed = Streamed(ask_toy, UNEVEN, STOCHASTIC, mesh if "mesh" in kind else None, prefetch=kind != "device")
    experts, inputs = origins(kind, mesh), make_inputs(5)
    for _ in range(2):  # neither the experts nor the noise may be donated
        got = streamed(experts, inputs)
        np.testing.assert_allclose(got, reference(STOCHASTIC, UNEVEN), rtol=1e-5, atol=1e-5)


def bytes_of(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def bytes_on(device: Any) -> int:
    """The bytes of live arrays on a device; an array and its shards count once."""
    shards = [shard for array in jax.live_arrays() for shard in array.addressable_shards if shard.device == device]
    shards = [shard.data for shard in shards if shard.data.sharding.memory_kind == device.default_memory().kind]
    return sum({array.unsafe_buffer_pointer(): array.nbytes for array in shards}.values())


@pytest.mark.parametrize(("prefetch", "most"), [(True, 2), (False, 1)])
def test_streamed_holds_one_expert_or_two_with_prefetch(
    prefetch: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, inputs = jax.local_devices()[0], make_inputs(2)
    ballast = np.ones((1000, 1000), np.float32)
    before, size = bytes_on(device), ballast.nbytes
    held: dict[str, float] = {}

    def look(when: str) -> None:
        held[when] = round((bytes_on(device) - before) / size, 1)

    def read(stage: int) -> dict[str, np.ndarray]:
        look(f"read {stage}")
        # A copy: a CPU device may alias an aligned numpy array, and two experts would then share memory.
        return {"w": TOYS[stage]["w"], "ballast": ballast.copy()}

    ahead, at_work = Turns.ahead, iter((3, 2, 1, 0))

    def look_after(turns: Turns) -> None:
        ahead(turns)
        look(f"work {next(at_work)}")

    monkeypatch.setattr(Turns, "ahead", look_after)
    streamed = Streamed(ask_toy, UNIFORM, STOCHASTIC, prefetch=prefetch)
    streamed([partial(read, stage) for stage in range(4)], inputs)
    look("end")
    assert list(held) == (
        ["read 3", "read 2", "work 3", "read 1", "work 2", "read 0", "work 1", "work 0", "end"]
        if prefetch
        else ["read 3", "work 3", "read 2", "work 2", "read 1", "work 1", "read 0", "work 0", "end"]
    )
    # The bytes when the next expert is read, and after it has arrived.
    assert {held[f"read {stage}"] for stage in range(3)} == {most - 1}
    assert {held[f"work {stage}"] for stage in (1, 2, 3)} == {most}
    assert held["work 0"] == 1, "there is none to fetch"
    assert held["read 3"] == held["end"] == 0


def test_the_streamed_program_takes_one_expert() -> None:
    """Arguments, results and temporaries, by the compiler: an expert, a batch and activations."""
    expert, inputs = unet_experts(WIDE)[0], make_inputs(1, side=8)
    streamed = Streamed(partial(ask, WIDE), UNIFORM, STOCHASTIC)
    latents, text, key = jax.tree.map(lambda leaf: leaf[0], (inputs.latents, inputs.text, inputs.keys))
    carry = streamed.sampler.init(latents)
    memory = streamed.stage.lower(expert, carry, text, inputs.shared, key, 0, 2).compile().memory_analysis()
    size = bytes_of(expert)
    assert size <= memory.argument_size_in_bytes < 1.01 * size
    assert memory.argument_size_in_bytes + memory.temp_size_in_bytes < 1.1 * size
    assert memory.alias_size_in_bytes >= bytes_of(carry), "a stage writes over the carry it was given"


# ---- pipelined -----------------------------------------------------------------------------------------------------


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


def test_stages_of_the_uneven_cut() -> None:
    """The assumption of the tests above."""
    assert [(stage, end - first) for stage, first, end in visits(UNEVEN, STEPS)] == [(3, 2), (2, 4), (0, 1)]


def test_nothing_of_an_expert_moves_and_each_group_holds_its_own() -> None:
    """By the compiled program: the traffic across the expert axis, and the memory of a device."""
    mesh, inputs = mesh_of(expert=4, data=2), make_inputs(4, side=8)
    pipelined = Pipelined(partial(ask, WIDE), UNIFORM, STOCHASTIC, mesh)
    bank = stack_experts(unet_experts(WIDE), mesh)
    with jax.set_mesh(mesh):
        queue = pipelined._enter(4, inputs.latents, inputs.text, inputs.keys)
        compiled = pipelined.program.lower(4, bank, inputs.shared, queue).compile()

    crossing = [one for one in Program(compiled.as_text()).collectives if one.crosses(mesh.devices.shape, 0)]
    assert AXES[0] == "expert" and crossing
    assert {one.kind for one in crossing} == {"collective-permute"}
    travelling = {leaf.sharding.shard_shape(leaf.shape)[1:] for leaf in jax.tree.leaves(queue)}
    assert {shape for one in crossing for _, shape in one.shapes} <= travelling
    assert max(one.bytes for one in crossing) <= bytes_of(inputs.latents[0])

    memory, own, batch = compiled.memory_analysis(), bytes_of(bank) / 4, bytes_of(queue) / 4
    assert own <= memory.argument_size_in_bytes < own + batch + 1000
    assert memory.argument_size_in_bytes + memory.temp_size_in_bytes < 1.1 * own, "the rest is activations"


def test_a_bank_is_laid_out_by_groups() -> None:
    mesh = mesh_of(expert=2, data=2)
    bank = stack_experts([partial(dict, toy) for toy in TOYS], mesh)
    np.testing.assert_array_equal(bank["w"], np.stack([toy["w"] for toy in TOYS]))
    assert bank["w"].sharding.shard_shape(bank["w"].shape) == (2, 3, 3)


# ---- what does not fit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "n", "sizes", "message"),
    [
        ("magic", 4, None, "--mode=magic must be one of resident, streamed, pipelined"),
        ("pipelined", 4, None, "--mesh=expert=2, --mesh=expert=4, or --mode=streamed"),
        ("pipelined", 4, {"data": 2}, "--mode=pipelined needs groups of devices that share the 4 experts"),
        ("pipelined", 3, {"expert": 2}, "use --mesh=expert=3, or"),
        ("pipelined", 1, None, "this model has one; use --mode=resident"),
        (
            "streamed",
            4,
            {"expert": 2},
            "--mesh=expert=2 is for --mode=pipelined; for --mode=streamed say --mesh=data=2",
        ),
    ],
)
def test_modes_that_do_not_fit_are_refused(mode: str, n: int, sizes: dict[str, int] | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_mode(mode, n, None if sizes is None else mesh_of(**sizes))


def test_wrong_numbers_of_experts_are_refused() -> None:
    with pytest.raises(ValueError, match="4 stages need 4 experts, but 3"):
        Streamed(ask_toy, UNIFORM, STOCHASTIC)(TOYS[:3], make_inputs(1))
    mesh = mesh_of(expert=2)
    with pytest.raises(ValueError, match="a bank of 4"):
        Pipelined(ask_toy, UNIFORM, STOCHASTIC, mesh)(stack_experts(TOYS[:2], mesh), make_inputs(1))
    with pytest.raises(ValueError, match="4 experts cannot be divided among 3 groups"):
        Pipelined(ask_toy, UNIFORM, STOCHASTIC, mesh_of(expert=3))
