"""Memory and time of a program on absent TPUs: the real program, compiled by the real compiler.

Task, mesh and sharding rules are those of a run; only the arrays are missing. Memory is the compiler's own figure for
one chip. Time is its cycle estimate without communication (see forecast/hlo.py), so it is a lower bound. Attention
kernels, for which the compiler has no estimate, count as their matrix products at the chip's peak.
"""

import dataclasses
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from ernie_vilg_jax.aliases import Tree
from ernie_vilg_jax.chips import Chip
from ernie_vilg_jax.errors import UserError, first_line
from ernie_vilg_jax.forecast.hlo import Program
from ernie_vilg_jax.sharding.rules import local_bytes
from ernie_vilg_jax.training.flops import jaxpr_flops

GIB = 2**30
QUICK = "O1"
"""XLA's optimization level for a first look at memory; "" is its default, full optimization."""
# Kind of work -> names of its operations.
WORK = {
    "projections": r"/(qkv|text_kv|out)/",
    "attention": r"_attn(_\d+)?/(?!norm)",
    "convolutions": r"conv_general_dilated",
    "norms": r"norm",
    "rest of the U-Net": r"UNet",
}


@dataclasses.dataclass(frozen=True)
class Forecast:
    """One program, per chip. Bytes and FLOPs are plain numbers; seconds are estimates, except `compile_seconds`.

    Attributes:
      state: name -> bytes of what stays between calls: parameters, averages, optimizer moments, by part.
      temporary: further bytes while the program runs: activations, gathered weights, gradients. If the compiler
        refuses the program: all that it needs beside its arguments.
      peak: bytes that the program needs, by the compiler's figures: arguments, results that do not reuse their memory,
        temporaries and the program's own code (`peak_of`).
      flops: of the model, all chips together; recomputation in the backward pass is not counted.
      executed: FLOPs with recomputation, if known.
      seconds: the compiler's cycles and the kernels', as time; None if the program text cannot be read.
      kernel_seconds: the share of attention kernels in it.
      shares: part of the U-Net's work -> its share of the compiler's cycles (`WORK`; by name, so roughly).
      traffic: kind of collective -> (how many, bytes).
      largest: the largest array of the program, as text.
      refused: the compiler's message if the program does not fit.
    """

    title: str
    chip: Chip
    chips: int
    batch: int
    state: Mapping[str, float]
    temporary: float
    peak: float
    flops: float
    compile_seconds: float
    executed: float = 0.0
    effort: str = ""
    seconds: float | None = None
    kernel_seconds: float = 0.0
    shares: Mapping[str, float] = dataclasses.field(default_factory=dict)
    traffic: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    largest: str = ""
    refused: str = ""

    @property
    def fits(self) -> bool:
        return self.peak <= self.chip.hbm and not self.refused

    @property
    def because(self) -> str:
        """The part that takes most of the memory."""
        parts = {**self.state, "temporary": self.temporary}
        name = max(parts, key=lambda part: parts[part])
        return f"{name} {_gib(parts[name])}"

    @property
    def compiled(self) -> str:
        return f"{self.compile_seconds:.0f} s{', quick' if self.effort else ''}"

    def text(self) -> str:
        """The report as text."""
        images = f", {self.batch} images" if self.batch else ""
        rows = [f"{self.title}: {self.chips} x {self.chip.name}{images}"]
        rows += [f"  {name:28s} {_gib(size, 8)} a chip" for name, size in self.state.items()]
        rows.append(f"  {'temporary':28s} {_gib(self.temporary, 8)} a chip")
        rows.append(f"  {'peak':28s} {_gib(self.peak, 8)} of {self.chip.hbm / GIB:.0f}")
        if self.largest:
            rows.append(f"  {'largest array':28s} {self.largest}")
        rows.append(f"  {'model':28s} {self.flops / self.chips / 1e12:8.2f} TFLOP a chip")
        if self.executed > self.flops:
            again = self.executed / self.flops
            rows.append(f"  {'executed':28s} {again:8.2f} times as many: because of recomputation in the backward pass")
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
        if self.refused:
            rows.append(f"  {'the compiler says':28s} {self.refused}")
        rows.append(f"  verdict: {self.verdict}; compiled in {self.compiled}")
        return "\n".join(rows)

    @property
    def verdict(self) -> str:
        if self.fits:
            return f"fits, with {(self.chip.hbm - self.peak) / GIB:.1f} GiB to spare"
        return f"does not fit: {_gib(self.peak)} of {self.chip.hbm / GIB:.0f}, most of it {self.because}"


def _gib(size: float, width: int = 0) -> str:
    return f"{size / GIB:{width}.2f} GiB" if math.isfinite(size) else f"{'?':>{width}} GiB"


@dataclasses.dataclass(frozen=True)
class Built:
    """A program that can be compiled.

    Attributes:
      title: what it is, on which mesh.
      batch: images at once, over all chips.
      jitted: the function.
      args: its abstract arguments, placed.
      state: name -> those of them that stay between calls.
      flops: counts the FLOPs of one call without recomputation, under the mesh; None: there is no recomputation.
      turns: trips of a loop whose number of trips is data, as in `Program`.
    """

    title: str
    mesh: Mesh
    batch: int
    jitted: jax.stages.Wrapped
    args: tuple[Tree, ...]
    state: Mapping[str, Tree]
    flops: Callable[[], float] | None = None
    turns: int = 1

    def lower(self) -> tuple[jax.stages.Lowered, float]:
        """The program as the compiler gets it, and the FLOPs it executes."""
        with jax.set_mesh(self.mesh):
            traced = self.jitted.trace(*self.args)
            return traced.lower(), jaxpr_flops(traced.jaxpr)


def forecast(
    built: Built, chip: Chip, effort: str = "", lowered: tuple[jax.stages.Lowered, float] | None = None
) -> Forecast:
    """Compiles a program for `chip`; `effort` is "" or `QUICK`. `lowered` is `built.lower()`, if it is known."""
    program, executed = lowered or built.lower()
    with jax.set_mesh(built.mesh):
        flops = built.flops() if built.flops else executed
    known: dict[str, Any] = {
        "state": {name: local_bytes(tree) for name, tree in built.state.items()},
        **{"title": built.title, "chip": chip, "chips": built.mesh.size, "batch": built.batch, "effort": effort},
        **{"flops": flops, "executed": executed},
    }
    started = time.monotonic()
    before = jax.config.jax_optimization_level  # type: ignore[attr-defined]
    jax.config.update("jax_optimization_level", effort or before)
    try:
        with jax.set_mesh(built.mesh):
            compiled = program.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        peak = needed(str(error))
        temporary = peak - local_bytes(built.args)
        refused = first_line(error, 500)
        seconds = time.monotonic() - started
        return Forecast(**known, temporary=temporary, peak=peak, compile_seconds=seconds, refused=refused)
    finally:
        jax.config.update("jax_optimization_level", before)
    return report(compiled, built.turns, **known, compile_seconds=time.monotonic() - started)


def needed(refusal: str) -> float:
    """Bytes that a program would need, from the compiler's message when it does not fit; infinity if unknown."""
    found = re.search(r"(?:Used|temporaries \()\s*([\d.]+)([KMGT]?)", refusal)
    return float(found[1]) * 2.0 ** (10 * " KMGT".index(found[2] or " ")) if found else math.inf


def report(compiled: jax.stages.Compiled, turns: int = 1, **known: Any) -> Forecast:
    """Joins what is known of a program with the compiler's figures; `turns` as in `Program`."""
    memory: Any = compiled.memory_analysis()
    try:
        program = Program(compiled.as_text() or "", turns)
    except (jax.errors.JaxRuntimeError, ValueError):
        # jaxlib cannot print every program of a newer TPU compiler; the memory is known all the same.
        program = None
    chip = known["chip"]
    kernels = program.kernel_flops / chip.flops if program else 0.0
    return Forecast(
        **known,
        temporary=memory.temp_size_in_bytes,
        peak=peak_of(memory),
        seconds=program.cycles / chip.clock + kernels if program and program.cycles else None,
        kernel_seconds=kernels,
        shares=program.shares(WORK) if program else {},
        traffic=program.traffic() if program else {},
        largest=program.largest if program else "",
    )


def peak_of(memory: Any) -> float:
    """Bytes that a program needs, from `compiled.memory_analysis()`.

    The compiler's own peak counts arrays that are alive at once. If there is room, it leaves gaps between them, so the
    memory it reserves for temporaries can be larger. The program's code comes on top of both.
    """
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    peak = max(getattr(memory, "peak_memory_in_bytes", 0), held + memory.temp_size_in_bytes)
    return float(peak + memory.generated_code_size_in_bytes)


def search(batch: int, forecast: Callable[[int], Forecast], tell: Callable[[str], object]) -> Forecast:
    """The forecast of the largest multiple of `batch` that fits. Raises UserError if not even `batch` fits.

    Memory grows about linearly, so two tries predict the limit and a third usually reaches it.
    """
    fitting: dict[int, Forecast] = {}
    above, multiple = 10**9, 1
    while True:
        found = forecast(multiple * batch)
        tell(f"batch {multiple * batch}: {found.verdict}")
        if found.fits:
            fitting[multiple] = found
        else:
            above = multiple
        if not fitting:
            raise UserError(
                f"a batch of {batch} does not fit: use a smaller one, more chips, or --config.model.unet.remat=True"
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
