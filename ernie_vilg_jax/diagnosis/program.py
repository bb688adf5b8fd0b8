"""Checks of our own programs on random data: a training step, sampling, a save; and the compiler's estimate."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing, paths
from ernie_vilg_jax.aliases import Params, Tree
from ernie_vilg_jax.chips import KINDS
from ernie_vilg_jax.diagnosis import machine
from ernie_vilg_jax.diagnosis.machine import GIB, memory_of, timed
from ernie_vilg_jax.diagnosis.sections import Check, Skipped
from ernie_vilg_jax.diffusion.samplers import make_sampler
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.forecast.abstract import batch_shapes
from ernie_vilg_jax.forecast.report import peak_of, report
from ernie_vilg_jax.model import ModelParams, build_model
from ernie_vilg_jax.sampling.generator import generate
from ernie_vilg_jax.sharding import processes, rules
from ernie_vilg_jax.training.diffusion import DiffusionTask
from ernie_vilg_jax.training.flops import peak_flops
from ernie_vilg_jax.training.in_turn import InTurn
from ernie_vilg_jax.training.items import Cutter
from ernie_vilg_jax.training.task import Batch, State
from ernie_vilg_jax.training.validation import Validation

STEPS = 3
"""Timed steps of training; denoising steps of sampling."""


class Examination:
    """All checks of `config.phase` (base or experts) over `mesh`, to be run in order.

    Args:
      workdir: where a checkpoint is saved and deleted again; None: a temporary folder on this machine.
      each: at least this many images of a training step for each device.
    """

    def __init__(self, config: ConfigDict, mesh: Mesh, workdir: epath.PathLike | None = None, each: int = 8) -> None:
        if config.phase == "autoencoder":
            raise UserError("--config names the phase autoencoder; doctor takes a step of base or of experts")
        self.mesh, self.workdir = mesh, workdir
        self.config = config = config.copy_and_resolve_references()
        config.data.cache_latents = False
        count = len(config.experts.train) or config.experts.n if config.phase == "experts" else 1
        section = config.phases[config.phase]
        unit = count * section.accumulation_steps * mesh.shape["data"] * mesh.shape["fsdp"]
        section.batch_size = unit * math.ceil(each * mesh.size // mesh.shape["tensor"] / unit)
        self.model = build_model(config)
        abstract = self.model.abstract_autoencoder()
        self.task = DiffusionTask(config, self.model, mesh, Validation(0, {}, {}))
        self.begin = jax.jit(self._begin, out_shardings=rules.shardings(abstract, mesh))
        self.state: State | None = None
        self.compiled: jax.stages.Compiled | None = None
        self.seconds = self.compile_seconds = self.flops = 0.0

    @property
    def checks(self) -> tuple[tuple[str, Check], ...]:
        return (
            ("Versions and devices", lambda: machine.devices(self.mesh)),
            ("Arithmetic and memory", lambda: machine.arithmetic(self.mesh)),
            ("Attention kernel", lambda: machine.attention_kernel(self.mesh)),
            (f"Training step of {self.config.phase}", partial(self._over_mesh, self.train)),
            ("Against the compiler's estimate", self.estimate),
            ("Sampling", partial(self._over_mesh, self.sample)),
            ("Save and restore", partial(self._over_mesh, self.save)),
        )

    def _over_mesh(self, check: Check) -> Iterator[str]:
        with jax.set_mesh(self.mesh):  # not for the checks of single devices
            yield from check()

    def _begin(self, key: jax.Array) -> Params:
        zeros = jnp.zeros(self.model.autoencoder.latent_channels)
        return {"params": self.model.init_autoencoder(key), "mean": zeros, "std": zeros + 1}

    def _batch(self) -> Batch:
        """Random images and words, in the form of a loader's batch."""
        size, random = self.task.batch_size, np.random.default_rng(0)
        rows = len(processes.own_rows(rules.batch_sharding(self.mesh), size))
        arrays: dict[str, np.ndarray] = {}
        for name, (shape, dtype) in batch_shapes(self.config, self.task).items():
            shape, dtype = (rows, *shape[1:]), np.dtype(dtype)
            if name in ("image", "tokens"):
                highest = 256 if name == "image" else self.config.tokenizer.vocab_size
                arrays[name] = random.integers(0, highest, shape).astype(dtype)
            else:
                arrays[name] = np.ones(shape, dtype)
        return rules.to_devices(arrays, self.mesh, size)

    def train(self) -> Iterator[str]:
        """Compiles a training step and runs a few."""
        task = self.task
        millions = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree)) / 1e6  # noqa: E731
        parameters = [f"{name} {millions(tree):.1f}M" for name, tree in task.parameters.items()]
        side = self.config.model.image_size
        yield f"config {self.config.name}, {side} x {side} pixels: {', '.join(parameters)}"
        task.start = {"autoencoder": self.begin(jax.random.key(0))}
        state, seconds = timed(task.init, jax.random.key(0))
        yield f"random state made in {seconds:.1f} s, {rules.local_bytes(task.abstract) / GIB:.2f} GiB a device"
        batch = self._batch()
        self.flops = task.flops_per_step(batch)
        compiled, self.compile_seconds = timed(lambda: task.train_step.lower(task.abstract, batch).compile())
        self.compiled = compiled
        yield f"compiled in {self.compile_seconds:.1f} s"
        # A bank on CPUs is not trained by one program; compiled all the same, for its estimates.
        run = task.train_step if isinstance(task.train_step, InTurn) else compiled
        found: list[jax.Array] = []

        def step(state: State) -> State:
            state, metrics = run(state, batch)
            found.append(metrics["loss"])
            return state

        state, first = timed(step, state)
        for _ in range(STEPS):
            state, seconds = timed(step, state)
            self.seconds += seconds / STEPS
        peak = peak_flops()
        mfu = f", {self.flops / self.seconds / peak:.1%} MFU" if peak else ""
        yield (
            f"{self.seconds * 1e3:.1f} ms a step of {task.batch_size} images (the first {first * 1e3:.0f} ms): "
            f"{task.batch_size / self.seconds:.1f} images/s, {self.flops / self.seconds / 1e12:.3g} TFLOP/s{mfu}"
        )
        losses = [float(loss) for loss in found]
        yield f"losses {', '.join(f'{loss:.4f}' for loss in losses)}"
        if not np.isfinite(losses).all():
            raise ArithmeticError("a loss is NaN or infinite")
        self.state = state

    def estimate(self) -> Iterator[str]:
        """Compares time and memory of that step with the compiler's estimate."""
        if self.compiled is None:
            raise Skipped("there was no training step")
        device = self.mesh.local_devices[0]
        expected = peak_of(self.compiled.memory_analysis())
        used = memory_of(device).get("peak_bytes_in_use")
        ratio = f"{used / GIB:.2f} GiB measured so far, {used / expected:.2f} x" if used else "not measured here"
        yield f"peak memory of a device: {expected / GIB:.2f} GiB expected, {ratio}"
        chip = KINDS.get(device.device_kind)
        if chip is None:
            yield "time: only the TPU compiler makes an estimate"
            return
        found = report(
            self.compiled,
            title=f"training step of {self.config.phase}",
            chip=chip,
            chips=self.mesh.size,
            batch=self.task.batch_size,
            state={"state": rules.local_bytes(self.task.abstract)},
            flops=self.flops,
            compile_seconds=self.compile_seconds,
        )
        if not found.seconds:
            yield "time: the compiled program has no estimate that can be read"
            return
        yield (
            f"time: {found.seconds * 1e3:.1f} ms expected without communication, {self.seconds * 1e3:.1f} ms measured, "
            f"{self.seconds / found.seconds:.2f} x"
        )
        for kind, (count, size) in sorted(found.traffic.items()):
            yield f"{kind}: {size / GIB:.3f} GiB in {count}"

    def sample(self) -> Iterator[str]:
        """Prompts to images with guidance, in few steps."""
        if self.state is None:
            raise Skipped("there is no trained state to sample from")
        task, model = self.task, self.model
        sampler = make_sampler("ddim", model.schedule, STEPS)
        across = self.mesh.shape["data"] * self.mesh.shape["fsdp"]

        def run(state: State, tokens: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
            bank, seen = state["experts"]["ema"], jnp.ones(tokens.shape, bool)
            experts = [jax.tree.map(lambda leaf, k=k: leaf[k], bank) for k in range(len(task.trained))]
            params = ModelParams(state["autoencoder"], state["text_encoder"]["ema"], experts)
            null = jnp.zeros_like(tokens[:1]), jnp.ones_like(seen[:1])
            key = jax.random.key(0)
            images = generate(model, params, task.stages, sampler, tokens, seen, null, noise, 2.0, key)
            return images, jnp.isfinite(images).all()

        if len(task.trained) < task.stages.n:
            raise Skipped("not all experts are trained here")
        tokens = np.ones((across, self.config.tokenizer.max_length), np.int32)
        noise = np.random.default_rng(0).normal(size=(across, *model.latent_shape)).astype(np.float32)
        over = NamedSharding(self.mesh, PartitionSpec(("data", "fsdp")))
        tokens, noise = processes.to_all((tokens, noise), over)
        jitted = jax.jit(run, out_shardings=(over, rules.replicated(self.mesh)))
        compiled, compiling = timed(lambda: jitted.lower(self.state, tokens, noise).compile())
        yield f"compiled in {compiling:.1f} s"
        timed(compiled, self.state, tokens, noise)
        (_, finite), seconds = timed(compiled, self.state, tokens, noise)
        yield f"{across} images in {STEPS} steps with guidance, text and decoding included: {seconds * 1e3:.1f} ms"
        if not finite:
            raise ArithmeticError("pixels are NaN or infinite")

    def save(self) -> Iterator[str]:
        """Writes a checkpoint of the state, reads it and compares every bit."""
        if self.state is None:
            raise Skipped("there is no state to save")
        if self.workdir is None and processes.count() > 1:
            raise Skipped("several processes need a --workdir that all of them see")
        with ExitStack() as stack:
            place = self.workdir or stack.enter_context(tempfile.TemporaryDirectory())
            folder = paths.reach(place, "workdir") / "doctor_checkpoint"
            yield from self._save_into(self.state, folder)

    def _save_into(self, state: State, folder: epath.Path) -> Iterator[str]:
        def clear() -> None:
            processes.wait_for_all("doctor")
            if processes.index() == 0 and folder.exists():
                folder.rmtree()
            processes.wait_for_all("doctor")

        clear()
        cutter = Cutter(self.task, self.mesh)
        items = cutter.items(state)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(items))
        saved = checkpointing.Checkpoints(folder, keep=1)
        try:
            metadata = checkpointing.make_metadata(self.config, phase=self.config.phase, data="random", examples=0)

            def write() -> None:
                saved.save(1, items, metadata)
                saved.wait()

            _, seconds = timed(write)
            yield f"{size / GIB:.3f} GiB written to {folder.parent} in {seconds:.1f} s, {size / seconds / 1e6:.0f} MB/s"
            read, seconds = timed(checkpointing.read_items, saved.path(1), cutter.abstract)
            yield f"read and compared with its checksums in {seconds:.1f} s, {size / seconds / 1e6:.0f} MB/s"
            if not jax.jit(_same)(items, read):
                raise ArithmeticError("the checkpoint that was read differs from what was written")
            yield "every bit is the same"
        finally:
            saved.close()
            clear()


def _same(a: Tree, b: Tree) -> jax.Array:
    bits = lambda leaf: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf  # noqa: E731
    equal = jax.tree.map(lambda x, y: (bits(x) == bits(y)).all(), a, b)
    return jnp.stack(jax.tree.leaves(equal)).all()
