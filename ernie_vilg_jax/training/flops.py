"""Model FLOPs: counted from the program's own matrix products and convolutions, so that no formula can go stale."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax

from ernie_vilg_jax.chips import KINDS
from ernie_vilg_jax.training.task import Batch, Task

# Peak dense bf16 FLOP/s (multiply-adds x 2) of one chip, by its `device_kind`, from the vendors' tables.
PEAK_FLOPS = {
    "TPU v4": 275e12,
    **{kind: chip.flops for kind, chip in KINDS.items()},
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "Tesla T4": 65e12,
}


def peak_flops() -> float | None:
    """Peak FLOP/s of all devices together; None if the device is not in the table (a CPU, for example)."""
    peak = PEAK_FLOPS.get(jax.devices()[0].device_kind)
    return peak * jax.device_count() if peak else None


def model_flops(task: Any, batch: Batch) -> float:
    """FLOPs that a step of `task` needs, over all devices, without recomputation by remat or kernels.

    MFU is based on this count; `batch` may be shapes.
    """
    if not task.model.remat and task.mesh.devices.flat[0].platform == "cpu":  # kernels are for TPUs
        return computed_flops(task, batch)
    plain: Any = copy.copy(task)
    plain.model = plain.model.without_recomputation()
    plain.__dict__.pop("train_step", None)  # the cached compiled one
    return computed_flops(plain, batch)


def computed_flops(task: Task, batch: Batch) -> float:
    """FLOPs that a step of `task` computes, including recomputation. HFU is based on this count."""
    return jaxpr_flops(task.train_step.trace(task.abstract, batch).jaxpr)


def count_flops(function: Callable[..., Any], *args: Any) -> float:
    """2 x multiply-adds of all dots and convolutions in `function(*args)`; loops count as often as they run."""
    return jaxpr_flops(jax.make_jaxpr(function)(*args))


def jaxpr_flops(jaxpr: Any) -> float:
    """The same for a traced program, such as `jitted.trace(*args).jaxpr`."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    total = 0.0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            ((contract, _), _) = equation.params["dimension_numbers"]
            lhs = equation.invars[0].aval.shape
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(lhs[i] for i in contract)
        elif name == "conv_general_dilated":
            out = equation.params["dimension_numbers"].rhs_spec[0]
            kernel = equation.invars[1].aval.shape
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / kernel[out]
        else:
            repeats = equation.params.get("length", 1) if name == "scan" else 1
            if name == "pallas_call":  # the inner jaxpr is one point of the grid
                repeats = math.prod(equation.params["grid_mapping"].grid)
            if name == "shard_map":  # the inner jaxpr is one group's share
                params = equation.params
                groups = params["newly_manual_axes" if "newly_manual_axes" in params else "manual_axes"]  # by version
                repeats = math.prod(size for axis, size in equation.params["mesh"].shape.items() if axis in groups)
            total += repeats * sum(jaxpr_flops(inner) for inner in _inner(equation.params))
    return total


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for candidate in value if isinstance(value, (tuple, list)) else (value,):
            inner = getattr(candidate, "jaxpr", candidate)
            if hasattr(inner, "eqns"):
                yield inner
