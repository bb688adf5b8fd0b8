"""Three ways to sample with a bank of experts; the images are the same.

| mode      | experts                                              | on a chip                               |
| resident  | all on the device                                    | the bank                                |
| streamed  | fetched one by one, from host memory, disk or a mesh | one expert, or two with prefetch        |
| pipelined | stay on their group; batches move from group to group | the bank / groups, and a batch          |
"""

from collections.abc import Callable
from typing import Any

from jax.sharding import Mesh

from ernie_vilg_jax import checks
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sampling.inputs import Executor, Predict
from ernie_vilg_jax.sampling.pipelined import Pipelined
from ernie_vilg_jax.sampling.resident import Resident
from ernie_vilg_jax.sampling.stepwise import Stepped
from ernie_vilg_jax.sampling.streamed import Streamed

MODES = ("resident", "streamed", "pipelined")


def make_executor(
    mode: str,
    predict: Predict,
    stages: Stages,
    *,
    mesh: Mesh | None = None,
    look: Callable[..., Any] | None = None,
    watched: bool = False,
) -> Executor:
    """The executor of one of the three modes; if it is `watched`, the one that runs step by step (not pipelined).

    It takes the experts, expert i in charge of stage i, as

    - resident: n trees of parameters, replicated on every device of the batches;
    - streamed: n `turns.LazyParams`;
    - pipelined: the bank of `pipelined.stack_experts`.

    `look` is as in `stepwise.Stepped`. Raises UserError if the mode and the mesh do not fit.
    """
    check_mode(mode, stages.n, mesh)
    # Sharded experts are gathered by the chips themselves, so there is nothing to overlap.
    prefetch = mesh is None or mesh.shape["fsdp"] == 1
    if mode == "pipelined":
        assert mesh is not None
        return Pipelined(predict, stages, mesh)
    if watched:
        return Stepped(predict, stages, mesh, mode == "streamed", prefetch, look)
    if mode == "streamed":
        return Streamed(predict, stages, mesh, prefetch)
    return Resident(predict, stages)


def check_mode(mode: str, n: int, mesh: Mesh | None) -> None:
    """Raises UserError unless n experts can be sampled from in this mode on this mesh."""
    checks.one_of(f"mode={mode!r}", mode, MODES)
    groups = 1 if mesh is None else mesh.shape["expert"]
    fitting = [g for g in range(2, n + 1) if n % g == 0]
    if mode != "pipelined":
        if groups > 1:
            raise UserError(
                f"mode={mode!r} takes no groups of devices; give mesh={{'data': {groups}}}, or mode='pipelined' with "
                f"mesh={{'expert': {groups}}}"
            )
        return
    if not fitting:
        raise UserError("mode='pipelined' needs several experts, but this model has one; use mode='resident'")
    if groups == 1 or n % groups:
        possible = ", ".join(f"mesh={{'expert': {g}}}" for g in fitting)
        raise UserError(
            f"mode='pipelined' needs groups of devices that share the {n} experts evenly: use {possible}, or "
            "mode='streamed', which needs one device"
        )
