"""Checks of the machine alone: versions, devices, speed of products and copies, and the attention kernel."""

import platform
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ernie_vilg_jax.aliases import Device
from ernie_vilg_jax.chips import KINDS
from ernie_vilg_jax.diagnosis.sections import Skipped
from ernie_vilg_jax.models.attention import Attention, plain_attention
from ernie_vilg_jax.sharding import processes
from ernie_vilg_jax.sharding.splash_attention import splash
from ernie_vilg_jax.training.flops import PEAK_FLOPS

Result = TypeVar("Result")
GIB = 2**30
PACKAGES = ("ernie_vilg_jax", "jax", "jaxlib", "libtpu", "flax", "orbax-checkpoint", "numpy")
LEAST = 0.3
"""Share of its peak that a device must reach; large products and copies reach twice as much if all is well."""


def timed(function: Callable[..., Result], *args: Any, times: int = 1) -> tuple[Result, float]:
    """The result of the last of `times` calls, and the seconds of one call."""
    started, result = time.monotonic(), function(*args)
    for _ in range(times - 1):
        result = function(*args)
    jax.block_until_ready(result)
    return result, (time.monotonic() - started) / times


def devices(mesh: Mesh) -> Iterator[str]:
    """Versions, devices, their memory, processes and the mesh."""
    found = {name: _version(name) for name in PACKAGES}
    yield f"Python {platform.python_version()}, {', '.join(f'{name} {v}' for name, v in found.items() if v)}"
    device = mesh.devices.flat[0]
    yield (
        f"{mesh.size} x {device.device_kind} ({device.platform}) on {processes.count()} process(es); "
        f"mesh {', '.join(f'{axis}={size}' for axis, size in mesh.shape.items())}"
    )
    limits = sorted({limit for one in mesh.local_devices if (limit := memory_of(one).get("bytes_limit"))})
    told = " or ".join(f"{limit / GIB:.1f} GiB" for limit in limits)
    yield f"memory of a device: {told or 'unknown'}"
    alone = sorted(str(device) for device in set(jax.devices()) - set(mesh.devices.flat))
    if alone:
        yield f"not in the mesh: {', '.join(alone)}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def memory_of(device: Device) -> dict[str, int]:
    """A device's own figures about its memory: "bytes_limit", "peak_bytes_in_use"; empty on a CPU."""
    return device.memory_stats() or {}


def arithmetic(mesh: Mesh) -> Iterator[str]:
    """Products that must be exact, and the rate of large products and copies on one device of each process."""
    device = mesh.local_devices[0]
    small = device.platform == "cpu"
    numbers = np.random.default_rng(0).integers(-2, 3, (2, 256, 256))
    multiply = jax.jit(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32))
    a, b = (jax.device_put(jnp.asarray(one, jnp.bfloat16), device) for one in numbers)
    if not np.array_equal(multiply(a, b), numbers[0] @ numbers[1]):
        raise ArithmeticError(f"{device} multiplies small integers wrongly: the device or its driver is faulty")
    yield "products of small integers are exact"

    n = 512 if small else 8192
    a = jax.device_put(jnp.ones((n, n), jnp.bfloat16), device)
    timed(multiply, a, a)
    _, seconds = timed(multiply, a, a, times=10)
    yield from _rate("bf16 products", 2 * n**3 / seconds, "TFLOP/s", 1e12, PEAK_FLOPS.get(device.device_kind))
    size = (32 << 20) if small else (1 << 30)
    x = jax.device_put(jnp.ones(size // 4, jnp.float32), device)
    copy = jax.jit(lambda x: x + 1)
    timed(copy, x)
    _, seconds = timed(copy, x, times=10)
    chip = KINDS.get(device.device_kind)
    yield from _rate("memory, read and written", 2 * size / seconds, "GB/s", 1e9, chip and chip.bandwidth)


def _rate(what: str, achieved: float, unit: str, scale: float, peak: float | None) -> Iterator[str]:
    share = f", {achieved / peak:.0%} of the peak" if peak else ", of an unknown peak"
    yield f"{what}: {achieved / scale:.1f} {unit}{share}"
    if peak and achieved < LEAST * peak:
        raise ArithmeticError(f"{what}: less than {LEAST:.0%} of the peak; is another program using the device?")


def attention_kernel(mesh: Mesh, positions: int = 4096) -> Iterator[str]:
    """Compares the kernel with plain attention, forward and backward, within the precision of bf16."""
    device = mesh.local_devices[0]
    if device.platform != "tpu":
        raise Skipped("no TPU: this device uses plain attention")
    keys = jax.random.split(jax.random.key(0), 3)
    words = 77
    keyed = (2, words + positions, 8, 64)
    shapes = (2, positions, 8, 64), keyed, keyed
    q, k, v = (jax.random.normal(key, shape, jnp.bfloat16) for key, shape in zip(keys, shapes, strict=True))
    mask = jnp.broadcast_to(jnp.arange(words + positions) >= 20, (2, 1, 1, words + positions))
    results = {}
    for name, attention in (("plain", plain_attention), ("kernel", splash)):

        def both(q: jax.Array, k: jax.Array, v: jax.Array, attention: Attention = attention) -> tuple[jax.Array, ...]:
            loss = lambda q, k, v: jnp.square(attention(q, k, v, mask).astype(jnp.float32)).mean()  # noqa: E731
            return attention(q, k, v, mask), *jax.grad(loss, (0, 1, 2))(q, k, v)

        run = jax.jit(both)
        _, compiling = timed(run, q, k, v)
        results[name], seconds = timed(run, q, k, v, times=5)
        yield f"{name}: {seconds * 1e3:.2f} ms forward and backward, first call {compiling:.1f} s"
    for name, ours, plain in zip(("result", "dq", "dk", "dv"), results["kernel"], results["plain"], strict=True):
        ours, plain = np.asarray(ours, np.float32), np.asarray(plain, np.float32)
        difference = float(np.abs(ours - plain).max() / np.abs(plain).max())
        yield f"largest difference of {name}: {difference:.1e} of the largest value"
        if not difference < 0.03:
            raise ArithmeticError(
                "the kernel disagrees with plain attention; until that is fixed, train with "
                "--config.model.attention_kernel_from=0"
            )
