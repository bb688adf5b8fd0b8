"""What training would take on TPUs that are not there: the real training step, compiled by the real compiler.

The same task, mesh and sharding rules as `run`; only the arrays are missing. Memory is the compiler's own account of
one chip; the time is its cycle estimate without communication (see parallel/hlo.py), so it is a lower bound.
"""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax.config import latent_size
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.models.autoencoder import Posterior
from ernie_vilg_jax.parallel import rules
from ernie_vilg_jax.parallel.hlo import Program
from ernie_vilg_jax.parallel.topology import Chip
from ernie_vilg_jax.system import build_system
from ernie_vilg_jax.training.diffusion import DiffusionTask

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Forecast:
    """One compiled program, per chip. Bytes and FLOPs are plain numbers; seconds are estimates but `compile_seconds`.

    Attributes:
      state: name -> bytes of what stays between steps: parameters, averages, optimizer moments, by part.
      temporary: bytes beside it while a step runs: activations, gathered weights, gradients.
      peak: bytes at the worst moment, by the compiler's account.
      flops: of the model, all chips together.
      seconds: the compiler's cycles, as time; None where it wrote no program text that can be read.
      traffic: kind of collective -> (how many, bytes).
    """

    title: str
    chip: Chip
    chips: int
    batch: int
    state: Mapping[str, float]
    temporary: float
    peak: float
    flops: float
    seconds: float | None
    traffic: Mapping[str, tuple[int, int]]
    compile_seconds: float

    @property
    def fits(self) -> bool:
        return self.peak <= self.chip.hbm

    def text(self) -> str:
        """The report, as people read it."""
        rows = [f"{self.title}: {self.chips} x {self.chip.name}, {self.batch} pictures a step"]
        rows += [f"  {name:28s} {size / GIB:8.2f} GiB a chip" for name, size in self.state.items()]
        rows.append(f"  {'temporary':28s} {self.temporary / GIB:8.2f} GiB a chip")
        rows.append(f"  {'peak':28s} {self.peak / GIB:8.2f} GiB of {self.chip.hbm / GIB:.0f}")
        rows.append(f"  {'model':28s} {self.flops / self.chips / 1e12:8.2f} TFLOP a chip and step")
        if self.seconds:
            mfu = self.flops / self.chips / self.seconds / self.chip.flops
            rows.append(
                f"  {'compiler estimate':28s} {self.seconds * 1e3:8.1f} ms a step without communication, {mfu:.0%} MFU"
            )
            for kind, (count, size) in sorted(self.traffic.items()):
                rows.append(f"  {kind:28s} {size / GIB:8.2f} GiB in {count}")
        verdict = "fits" if self.fits else f"does not fit: {(self.peak - self.chip.hbm) / GIB:.1f} GiB too much a chip"
        rows.append(f"  verdict: {verdict}; compiled in {self.compile_seconds:.0f} s")
        return "\n".join(rows)


def forecast_training(config: ConfigDict, mesh: Mesh, chip: Chip) -> Forecast:
    """Compiles one training step of `config.target` (stage1 or stage2) for `mesh`."""
    if config.target == "autoencoder":
        raise UserError("--config names the target autoencoder; aot compiles stage1 and stage2")
    config = config.copy_and_resolve_references()
    system = build_system(config)
    cached = Posterior(np.zeros(0), np.zeros(0)) if config.data.cache_latents else None  # type: ignore[arg-type]
    task = DiffusionTask(config, system, mesh, {}, posteriors=cached)
    shapes = batch_shapes(config, task)
    batch: Any = {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=rules.batch_sharding(mesh))
        for name, (shape, dtype) in shapes.items()
    }
    with jax.set_mesh(mesh):
        flops = task.flops_per_step(batch)
        started = time.monotonic()
        compiled = task.train_step.lower(task.abstract, batch).compile()
        seconds = time.monotonic() - started
    parts = {"autoencoder": task.abstract["autoencoder"], "text encoder": task.abstract["text_encoder"]}
    names = {"params": "parameters", "ema": "average", "opt": "optimizer"}
    state = {name: local_bytes(tree) for name, tree in parts.items()}
    state |= {f"experts, {names[name]}": local_bytes(tree) for name, tree in task.abstract["experts"].items()}
    return report(
        compiled,
        title=f"{config.name}, {config.target}, {dict(mesh.shape)}",
        chip=chip,
        chips=mesh.size,
        batch=task.batch_size,
        state=state,
        flops=flops,
        compile_seconds=seconds,
    )


def batch_shapes(config: ConfigDict, task: DiffusionTask) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and type of every array that a training step is given."""
    batch, length, side, size = (
        task.batch_size,
        config.tokenizer.max_length,
        latent_size(config),
        config.model.image_size,
    )
    every: dict[str, tuple[tuple[int, ...], Any]] = {
        "tokens": ((batch, length), jnp.int32),
        "token_mask": ((batch, length), jnp.bool_),
        "token_weight": ((batch, length), jnp.float32),
        "loss_weight": ((batch, side, side), jnp.float32),
    }
    shapes = {name: every[name] for name in task.words}
    if config.data.cache_latents:
        latents = (batch, side, side, config.model.autoencoder.latent_channels)
        return {**shapes, "mean": (latents, jnp.float32), "log_variance": (latents, jnp.float32)}
    return {**shapes, "image": ((batch, size, size, 3), jnp.float32)}


def local_bytes(tree: Any) -> float:
    """Bytes of an abstract, placed tree on one device."""
    total = 0.0
    for leaf in jax.tree.leaves(tree):
        shape = leaf.sharding.shard_shape(leaf.shape)
        total += float(np.prod(shape, dtype=np.float64)) * getattr(leaf.dtype, "itemsize", 4)
    return total


def report(compiled: Any, **known: Any) -> Forecast:
    """Joins what is known of a program with what the compiler says of it."""
    memory = compiled.memory_analysis()
    try:
        program = Program(compiled.as_text())
    except (jax.errors.JaxRuntimeError, ValueError):
        # jaxlib cannot print all that a newer TPU compiler makes; memory is known all the same.
        program = None
    return Forecast(
        **known,
        temporary=memory.temp_size_in_bytes,
        peak=memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        seconds=program.cycles / known["chip"].clock if program and program.cycles else None,
        traffic=program.traffic() if program else {},
    )
