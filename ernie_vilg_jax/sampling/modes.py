"""Three ways to sample with a bank of experts; the pictures are the same.

| mode      | experts                                              | on a chip                               |
| resident  | all on the device                                    | the bank                                |
| streamed  | come one after the other, from host, disk or a mesh  | one expert, or two with prefetch        |
| pipelined | stay on their group; batches move from group to group | the bank / groups, and a batch          |
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ernie_vilg_jax.diffusion.loop import sample
from ernie_vilg_jax.diffusion.samplers import Sampler
from ernie_vilg_jax.diffusion.schedule import Denoised
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sampling.inputs import Inputs, Params, Predict
from ernie_vilg_jax.sampling.pipelined import Pipelined
from ernie_vilg_jax.sampling.streamed import Streamed

MODES = ("resident", "streamed", "pipelined")

Sampling = Callable[[Any, Inputs], jax.Array]
"""sampling(experts, inputs) -> clean latents [M, b, ...] float32."""


def make_sampling(
    mode: str, predict: Predict, stages: Stages, sampler: Sampler, *, mesh: Mesh | None = None, prefetch: bool = True
) -> Sampling:
    """The sampling loop in one of the three modes. Keep what it returns: it holds the compiled programs.

    Experts, expert i in charge of stage i, are given to it as

    - resident: n trees of parameters, whole on every device that the batches lie on;
    - streamed: n `streamed.Source`s;
    - pipelined: the bank of `pipelined.stack_experts`.

    Raises UserError where the mode and the mesh do not fit.
    """
    check_mode(mode, stages.n, mesh)
    if mode == "resident":
        return _resident(predict, stages, sampler)
    if mode == "streamed":
        return Streamed(predict, stages, sampler, mesh, prefetch)
    assert mesh is not None
    return Pipelined(predict, stages, sampler, mesh)


def check_mode(mode: str, n: int, mesh: Mesh | None) -> None:
    """Raises UserError unless n experts can be sampled from in this mode on this mesh."""
    if mode not in MODES:
        raise UserError(f"--mode={mode} is not one of {', '.join(MODES)}")
    groups = 1 if mesh is None else mesh.shape["expert"]
    fitting = [g for g in range(2, n + 1) if n % g == 0]
    if mode != "pipelined":
        if groups > 1:
            raise UserError(
                f"--mesh=expert={groups} is for --mode=pipelined; for --mode={mode} say --mesh=data={groups}"
            )
        return
    if not fitting:
        raise UserError("--mode=pipelined needs several experts, but this model has one; use --mode=resident")
    if groups == 1 or n % groups:
        possible = ", ".join(f"--mesh=expert={g}" for g in fitting)
        raise UserError(
            f"--mode=pipelined needs groups of devices that share the {n} experts evenly: use {possible}, or "
            "--mode=streamed, which needs one device"
        )


def _resident(predict: Predict, stages: Stages, sampler: Sampler) -> Sampling:
    @jax.jit
    def one(experts: Any, latents: jax.Array, text: Any, shared: Any, key: jax.Array) -> jax.Array:
        def apply(params: Params, x: jax.Array, t: jax.Array) -> Denoised:
            return predict(params, x, t, text, shared)

        return sample(experts, apply, stages, sampler, latents, key)

    def run(experts: Any, inputs: Inputs) -> jax.Array:
        pick = lambda tree, m: jax.tree.map(lambda leaf: leaf[m], tree)  # noqa: E731
        own = inputs.latents, inputs.text, inputs.keys
        return jnp.stack(
            [
                one(experts, latents, text, inputs.shared, key)
                for latents, text, key in (pick(own, m) for m in range(inputs.count))
            ]
        )

    return run
