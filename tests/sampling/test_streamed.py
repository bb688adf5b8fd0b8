"""Streamed sampling: the images of the resident mode, and what is on the device."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from ernie_vilg_jax.sampling.streamed import Streamed
from ernie_vilg_jax.sampling.turns import Turns, to_host
from tests.sampling.toys import (
    STOCHASTIC,
    TOYS,
    UNEVEN,
    UNIFORM,
    WIDE,
    ask,
    ask_toy,
    bytes_of,
    make_inputs,
    mesh_of,
    reference,
    unet_experts,
)


def origins(kind: str, mesh: Mesh) -> list[Any]:
    if kind == "functions":
        return [partial(jax.tree.map, np.copy, toy) for toy in TOYS]
    if kind == "cut over a mesh":
        return [jax.device_put(toy, jax.NamedSharding(mesh, jax.P(None, "tensor"))) for toy in TOYS]
    return [{"numpy": lambda tree: tree, "host": to_host, "device": jax.device_put}[kind](toy) for toy in TOYS]


@pytest.mark.parametrize("kind", ["numpy", "host", "device", "functions", "cut over a mesh"])
def test_streamed_is_resident_wherever_experts_come_from(kind: str) -> None:
    mesh = mesh_of(data=2, tensor=3)
    streamed = Streamed(ask_toy, UNEVEN, mesh if "mesh" in kind else None, prefetch=kind != "device")
    experts, inputs = origins(kind, mesh), make_inputs(5)
    for _ in range(2):  # neither the experts nor the noise may be donated
        got = streamed(experts, STOCHASTIC, inputs)
        np.testing.assert_allclose(got, reference(STOCHASTIC, UNEVEN), rtol=1e-5, atol=1e-5)


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
    streamed = Streamed(ask_toy, UNIFORM, prefetch=prefetch)
    streamed([partial(read, stage) for stage in range(4)], STOCHASTIC, inputs)
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
    streamed = Streamed(partial(ask, WIDE), UNIFORM)
    latents, text, key = jax.tree.map(lambda leaf: leaf[0], (inputs.latents, inputs.text, inputs.keys))
    carry = STOCHASTIC.init(latents)
    memory = streamed.stage.lower(expert, STOCHASTIC, carry, text, inputs.shared, key, 0, 2).compile().memory_analysis()
    size = bytes_of(expert)
    assert size <= memory.argument_size_in_bytes < 1.01 * size
    assert memory.argument_size_in_bytes + memory.temp_size_in_bytes < 1.1 * size
    assert memory.alias_size_in_bytes >= bytes_of(carry), "a stage writes over the carry it was given"
