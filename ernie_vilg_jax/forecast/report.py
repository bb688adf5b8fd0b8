"""What training and sampling would take on TPUs that are not there: the real programs, compiled by the real compiler.

The same task, mesh and sharding rules as in a run; only the arrays are missing. Memory is the compiler's own account of
one chip; the time is its cycle estimate without communication (see forecast/hlo.py), so it is a lower bound. Attention
kernels, for which the compiler has no estimate, are charged what their matrix products take at the chip's peak.
"""

import dataclasses
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from ernie_vilg_jax.chips import Chip
from ernie_vilg_jax.config import latent_size
from ernie_vilg_jax.diffusion.loop import visits
from ernie_vilg_jax.diffusion.samplers import make_sampler
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.forecast.hlo import Program
from ernie_vilg_jax.model import ModelParams, build_model
from ernie_vilg_jax.models.autoencoder import Posterior
from ernie_vilg_jax.sampling.generator import generate
from ernie_vilg_jax.sampling.modes import check_mode
from ernie_vilg_jax.sampling.streamed import working
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.sharding.rules import local_bytes
from ernie_vilg_jax.training.diffusion import DiffusionTask
from ernie_vilg_jax.training.flops import count_flops
from ernie_vilg_jax.training.validation import Validation

GIB = 2**30
# What the time goes to -> how the operations are named.
WORK = {
    "projections": r"/(qkv|text_kv|out)/",
    "attention": r"_attn(_\d+)?/(?!norm)",
    "convolutions": r"conv_general_dilated",
    "norms": r"norm",
    "rest of the U-Net": r"UNet",
}


@dataclasses.dataclass(frozen=True)
class Forecast:
    """One compiled program, per chip. Bytes and FLOPs are plain numbers; seconds are estimates but `compile_seconds`.

    Attributes:
      state: name -> bytes of what stays between steps: parameters, averages, optimizer moments, by part.
      temporary: bytes beside it while a step runs: activations, gathered weights, gradients.
      peak: bytes of arguments and temporaries together, by the compiler's account.
      flops: of the model, all chips together.
      seconds: the compiler's cycles, as time, and the kernels'; None where it wrote no program text that can be read.
      kernel_seconds: of them, those of attention kernels.
      shares: part of the U-Net's work -> its share of the compiler's cycles (`WORK`; by name, so roughly).
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
    kernel_seconds: float
    shares: Mapping[str, float]
    traffic: Mapping[str, tuple[int, int]]
    compile_seconds: float

    @property
    def fits(self) -> bool:
        return self.peak <= self.chip.hbm

    def text(self) -> str:
        """The report, as people read it."""
        rows = [f"{self.title}: {self.chips} x {self.chip.name}, {self.batch} pictures"]
        rows += [f"  {name:28s} {size / GIB:8.2f} GiB a chip" for name, size in self.state.items()]
        rows.append(f"  {'temporary':28s} {self.temporary / GIB:8.2f} GiB a chip")
        rows.append(f"  {'peak':28s} {self.peak / GIB:8.2f} GiB of {self.chip.hbm / GIB:.0f}")
        rows.append(f"  {'model':28s} {self.flops / self.chips / 1e12:8.2f} TFLOP a chip")
        if self.seconds:
            mfu = self.flops / self.chips / self.seconds / self.chip.flops
            rows.append(
                f"  {'compiler estimate':28s} {self.seconds * 1e3:8.1f} ms without communication, {mfu:.0%} MFU"
            )
            if self.kernel_seconds:
                rows.append(
                    f"  {'of it attention kernels':28s} {self.kernel_seconds * 1e3:8.1f} ms, if at the chip's peak"
                )
            shares = [f"{work} {share:.0%}" for work, share in self.shares.items() if share > 0.01]
            rows.append(f"  {'of its cycles':28s} {', '.join(shares)}")
            for kind, (count, size) in sorted(self.traffic.items()):
                rows.append(f"  {kind:28s} {size / GIB:8.2f} GiB in {count}")
        rows.append(f"  verdict: {self.verdict}; compiled in {self.compile_seconds:.0f} s")
        return "\n".join(rows)

    @property
    def verdict(self) -> str:
        if self.fits:
            return f"fits, with {(self.chip.hbm - self.peak) / GIB:.1f} GiB to spare"
        return f"does not fit: {(self.peak - self.chip.hbm) / GIB:.1f} GiB too much a chip"


def forecast_training(config: ConfigDict, mesh: Mesh, chip: Chip, effort: str = "") -> Forecast:
    """Compiles one training step of `config.phase` (base or experts) for `mesh`; `effort` as in `_compile`."""
    if config.phase == "autoencoder":
        raise UserError("--config names the phase autoencoder; aot compiles base and experts")
    config = config.copy_and_resolve_references()
    model = build_model(config)
    cached = Posterior(np.zeros(0), np.zeros(0)) if config.data.cache_latents else None  # type: ignore[arg-type]
    task = DiffusionTask(config, model, mesh, Validation(0, {}, {}), posteriors=cached)
    shapes = batch_shapes(config, task)
    batch: Any = {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=rules.batch_sharding(mesh))
        for name, (shape, dtype) in shapes.items()
    }
    with jax.set_mesh(mesh):
        flops = task.flops_per_step(batch)
        compiled, seconds = _compile(task.train_step.lower(task.abstract, batch), effort)
    params = {"autoencoder": task.abstract["autoencoder"], "text encoder": task.abstract["text_encoder"]}
    names = {"params": "parameters", "ema": "average", "opt": "optimizer"}
    state = {name: local_bytes(tree) for name, tree in params.items()}
    state |= {f"experts, {names[name]}": local_bytes(tree) for name, tree in task.abstract["experts"].items()}
    return report(
        compiled,
        title=f"{_title(config, mesh)}, training step of {config.phase}",
        chip=chip,
        chips=mesh.size,
        batch=task.batch_size,
        state=state,
        flops=flops,
        compile_seconds=seconds,
    )


def forecast_sampling(config: ConfigDict, mesh: Mesh, chip: Chip, batch: int, effort: str = "") -> Forecast:
    """Compiles prompts -> pictures with all experts resident: text encoder, the whole loop with guidance, decoder.

    Pictures go over the mesh's `data` and `fsdp`; experts are whole on every chip, or cut along `tensor`.
    """
    config = config.copy_and_resolve_references()
    check_mode("resident", config.experts.n, mesh)
    across = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch % across:
        raise UserError(f"--batch={batch} must be a multiple of {across}, the chips that pictures go over")
    model = build_model(config)
    settings = config.sample
    sampler = make_sampler(settings.sampler, model.schedule, settings.steps)
    key, half = jax.random.key(0), jnp.dtype(config.dtype)

    def abstract(tree: Any, dtype: Any) -> Any:
        tree = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), tree)
        return rules.placed(tree, working(tree, mesh))

    expert = abstract(jax.eval_shape(model.init_unet, key), half)
    text_encoder = abstract(jax.eval_shape(model.init_text_encoder, key), half)
    params = ModelParams(abstract(model.abstract_autoencoder(), jnp.float32), text_encoder, (expert,) * model.stages.n)
    words = [jax.ShapeDtypeStruct((batch, config.tokenizer.max_length), t) for t in (jnp.int32, jnp.bool_)]
    null = tuple(jax.ShapeDtypeStruct((1, *word.shape[1:]), word.dtype) for word in words)
    noise = jax.ShapeDtypeStruct((batch, *model.latent_shape), jnp.float32)
    over = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    tokens, mask, noise = (jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=over) for x in (*words, noise))

    def run(params: ModelParams, tokens: Any, mask: Any, null: Any, noise: Any, scale: Any) -> jax.Array:
        return generate(model, params, model.stages, sampler, tokens, mask, null, noise, scale, key)

    def step(params: ModelParams, tokens: Any, mask: Any, noise: Any) -> Any:
        text = model.encode_text(params.text_encoder, tokens, mask)
        return model.predict(params.experts[0], noise, jnp.zeros(batch, jnp.int32), text)

    with jax.set_mesh(mesh):
        # With guidance each step looks at every picture twice.
        flops = 2 * settings.steps * count_flops(step, params, tokens, mask, noise)
        flops += count_flops(model.decode, params.autoencoder, noise)
        scale = jax.ShapeDtypeStruct((), jnp.float32)
        jitted = jax.jit(run, out_shardings=over)
        compiled, seconds = _compile(jitted.lower(params, tokens, mask, null, noise, scale), effort)
    names = {"autoencoder": params.autoencoder, "text encoder": text_encoder}
    state = {name: local_bytes(tree) for name, tree in names.items()}
    return report(
        compiled,
        title=f"{_title(config, mesh)}, {settings.steps} steps of {settings.sampler} with guidance",
        chip=chip,
        chips=mesh.size,
        batch=batch,
        state=state | {f"experts ({model.stages.n})": model.stages.n * local_bytes(expert)},
        flops=flops,
        compile_seconds=seconds,
        # How many steps a stage has is data to the program.
        turns=round(settings.steps / len(visits(model.stages, sampler.timesteps))),
    )


class TooBig(UserError):
    """The compiler found no way to fit the program into a chip's memory."""


def largest(batch: int, forecast: Callable[[int], Forecast], tell: Callable[[str], Any]) -> Forecast:
    """Of the largest multiple of `batch` that fits. Raises UserError if not even the first does.

    Memory grows by about as much with each multiple, so that two tries say where the limit lies, and a third is there.
    """
    fitting: dict[int, Forecast] = {}
    above, multiple = 10**9, 1
    while True:
        try:
            found = forecast(multiple * batch)
        except TooBig as error:
            tell(f"batch {multiple * batch}: {error}")
            above = multiple
        else:
            tell(f"batch {multiple * batch}: {found.verdict}")
            if found.fits:
                fitting[multiple] = found
            else:
                above = multiple
        if not fitting:
            raise TooBig(
                f"a batch of {batch} does not fit: give a smaller one, more chips, or --config.model.unet.remat=True"
            )
        best = max(fitting)
        if best + 1 == above:
            return fitting[best]
        if len(fitting) == 1:
            multiple = 2 * best if 2 * best < above else (best + above) // 2
            continue
        before = max(count for count in fitting if count < best)
        each = max((fitting[best].peak - fitting[before].peak) / (best - before), 1.0)
        more = int((fitting[best].chip.hbm - fitting[best].peak) / each)
        if not more:
            return fitting[best]
        multiple = best + more if best + more < above else (best + above) // 2


def _title(config: ConfigDict, mesh: Mesh) -> str:
    axes = ", ".join(f"{axis}={size}" for axis, size in mesh.shape.items() if size > 1)
    side = config.model.image_size
    return f"{config.name}, {side} x {side} pixels, mesh {axes or 'of one chip'}"


def _compile(lowered: Any, effort: str) -> tuple[Any, float]:
    """The compiled program, and the seconds it took. `effort` is XLA's optimization level: "" its default, or "O1"."""
    started = time.monotonic()
    before = jax.config.jax_optimization_level  # type: ignore[attr-defined]
    jax.config.update("jax_optimization_level", effort or before)
    try:
        return lowered.compile(), time.monotonic() - started
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        used = re.search(r"Used \S+ of \S+ hbm", str(error))
        raise TooBig(f"does not fit: {used[0] if used else str(error).splitlines()[0][:200]} on each chip") from error
    finally:
        jax.config.update("jax_optimization_level", before)


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
    return {**shapes, "image": ((batch, size, size, 3), jnp.uint8)}


def report(compiled: Any, turns: int = 1, **known: Any) -> Forecast:
    """Joins what is known of a program with what the compiler says of it; `turns` as in `Program`."""
    memory = compiled.memory_analysis()
    try:
        program = Program(compiled.as_text(), turns)
    except (jax.errors.JaxRuntimeError, ValueError):
        # jaxlib cannot print all that a newer TPU compiler makes; memory is known all the same.
        program = None
    chip = known["chip"]
    kernels = program.kernel_flops / chip.flops if program else 0.0
    return Forecast(
        **known,
        temporary=memory.temp_size_in_bytes,
        peak=memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        seconds=program.cycles / chip.clock + kernels if program and program.cycles else None,
        kernel_seconds=kernels,
        shares=program.shares(WORK) if program else {},
        traffic=program.traffic() if program else {},
    )
