"""The plan of a whole run: bytes, chip-hours, checkpoints and goodput, from the compiler's reports of its programs.

What the reports do not say is an assumption, named and printed with the plan (`Assumptions`).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from ernie_vilg_jax.chips import CHIPS, Chip
from ernie_vilg_jax.config import latent_size
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.forecast.goodput import Interruptions
from ernie_vilg_jax.model import build_model

NEEDED = ("encoding", "base_step_encoded", "experts_step_encoded")
"""The reports that a slice needs for the plan."""
HOUR, DAY = 3600.0, 86400.0


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """What nothing here has measured. Each can be given: --assume=mfu=0.4,pairs=1.7e9."""

    pairs: float = 170e6  # the paper's
    base_steps: float = 350e3  # the paper's
    experts_steps: float = 90e3  # the paper's
    image_bytes: float = 150e3  # of a stored image: a JPEG of about a megapixel
    text_bytes: float = 1.5e3  # captions, words, boxes of a record
    pairs_per_part: float = 1e5  # of a tar or parquet file that is prepared
    pairs_per_shard: float = 2e4
    mfu: float = 0.35  # of training, with communication
    encode_mfu: float = 0.25
    slices: float = 1
    preemptions: float = 1.0  # of a slice, a day
    restart_minutes: float = 15.0  # a new slice, installation, restoring, compiling
    copy_gbs: float = 5.0  # GB/s of a chip to its machine, for which training stops
    write_gbs: float = 0.4  # GB/s of a machine to the bucket, while training goes on
    chips_per_host: float = 4
    prepare_rate: float = 50.0  # pairs a second and core: every image is decoded, a megapixel in 18 ms
    cores: float = 512  # that prepare

    @staticmethod
    def of(given: Mapping[str, str]) -> Assumptions:
        """Raises UserError for unknown names and values that are not positive numbers."""
        known = [field.name for field in dataclasses.fields(Assumptions)]
        values = {}
        for name, text in given.items():
            if name not in known:
                raise UserError(f"--assume has no {name!r}: it has {', '.join(known)}")
            try:
                values[name] = float(text)
            except ValueError:
                values[name] = math.nan
            if not 0 < values[name] < math.inf:
                raise UserError(f"--assume={name}={text}: give a positive number")
        return Assumptions(**values)


@dataclasses.dataclass(frozen=True)
class Program:
    """What is read of a report: chips, images of a call, FLOPs of all chips, and the compiler's seconds."""

    chips: int
    images: int
    flops: float
    seconds: float | None


def read_report(file: Path) -> Program:
    """Raises UserError if the file is not a report of `aot`."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"--plan needs the report {file}: make it with `aot --program=all --output={file.parent}`"
        ) from error
    head = re.search(r": (\d+) x [\w ]+?, (\d+) images$", text.split("\n")[0])
    model = re.search(r"^ +model +([\d.]+) TFLOP a chip$", text, re.MULTILINE)
    if head is None or model is None:
        raise UserError(f"{file} is not a report of `aot` for a program of images: make it again")
    estimate = re.search(r"^ +compiler estimate +([\d.]+) ms ", text, re.MULTILINE)
    chips = int(head[1])
    return Program(chips, int(head[2]), float(model[1]) * 1e12 * chips, float(estimate[1]) / 1e3 if estimate else None)


@dataclasses.dataclass(frozen=True)
class Slice:
    name: str
    chip: Chip
    programs: Mapping[str, Program]

    @property
    def chips(self) -> int:
        return self.programs["base_step_encoded"].chips


def read_slices(folder: Path) -> list[Slice]:
    """The slices with reports: folders such as v5p-4x4x8, in the order of their names."""
    found = []
    for place in sorted(folder.iterdir()) if folder.is_dir() else []:
        kind = place.name.split("-")[0]
        if place.is_dir() and kind in CHIPS:
            found.append(Slice(place.name, CHIPS[kind], {name: read_report(place / f"{name}.txt") for name in NEEDED}))
    if not found:
        raise UserError(
            f"--plan={folder} has no folder of a slice with reports, such as v5p-4x4x8: make one with "
            "`aot --program=all --topology=v5p:4x4x8 --output=...`"
        )
    return found


def scaled(slices: list[Slice], name: str) -> Slice:
    """A slice without reports: the same steps on other chips of a kind that has some. Whether they fit is open."""
    kind, _, shape = name.partition("-")
    sizes = shape.split("x")
    near = [one for one in slices if one.chip is CHIPS.get(kind)]
    if not near or not all(size.isdigit() and int(size) for size in sizes):
        raise UserError(f"--also={name}: give a slice such as v5p-4x4x4, of a chip that has reports in --plan")
    factor = near[0].chips / math.prod(map(int, sizes))
    programs = {
        key: dataclasses.replace(one, chips=round(one.chips / factor), seconds=one.seconds and one.seconds * factor)
        for key, one in near[0].programs.items()
    }
    return Slice(name, near[0].chip, programs)


@dataclasses.dataclass(frozen=True)
class Phase:
    """A phase of training on a slice.

    Attributes:
      images: of all steps.
      bound: chip-hours by the compiler's estimate, without communication; None if it has none.
      hours: chip-hours at the assumed MFU.
      state: bytes of a checkpoint.
      stall: seconds for which a save stops training; `write`: until it is in the bucket.
      interval: seconds of work between two saves, by the formula.
      goodput: simulated share of useful time, and `expected` by the formula; `seldom`: with the config's interval.
    """

    images: float
    step_seconds: float
    bound: float | None
    hours: float
    days: float
    state: float
    stall: float
    write: float
    interval: float
    goodput: float
    expected: float
    seldom: float


def parameter_counts(config: ConfigDict) -> dict[str, float]:
    """Parameters of an expert, the text encoder and the autoencoder, without making one."""
    model = build_model(config)
    trees: dict[str, Any] = {
        "unet": model.abstract_unet(),
        "text_encoder": model.abstract_text_encoder(),
        "autoencoder": model.abstract_autoencoder(),
    }
    return {name: float(sum(leaf.size for leaf in jax.tree.leaves(tree))) for name, tree in trees.items()}


def checkpoint_bytes(counts: Mapping[str, float], experts: int) -> dict[str, float]:
    """Of a phase: 16 bytes of a trained parameter (itself, average, two moments of Adam), 4 of a fixed one."""
    fixed = 4 * counts["autoencoder"]
    return {
        "base": 16 * (counts["unet"] + counts["text_encoder"]) + fixed,
        "experts": 16 * experts * counts["unet"] + 4 * counts["text_encoder"] + fixed,
    }


def plan_phase(of: Slice, name: str, steps: float, state: float, given: Assumptions, every: int = 1000) -> Phase:
    """Training with all `given.slices`, which divide the batch of one; `every`: the config's steps between saves."""
    program = of.programs[f"{name}_step_encoded"]
    step = program.flops / (of.chips * of.chip.flops * given.mfu)
    images, chips = steps * program.images, of.chips * given.slices
    seconds = steps * step / given.slices
    stall = state / (chips * given.copy_gbs * 1e9)
    write = state / (chips / given.chips_per_host * given.write_gbs * 1e9)
    risk = Interruptions(DAY / (given.preemptions * given.slices), stall, given.restart_minutes * 60)
    interval = max(risk.best_interval(), write)
    # A simulated run is long enough for its own chance to be small.
    goodput = risk.simulate(interval, max(seconds, 2000 * risk.between))
    return Phase(
        images=images,
        step_seconds=step / given.slices,
        bound=None if program.seconds is None else steps * program.seconds * of.chips / HOUR,
        hours=seconds * chips / HOUR,
        days=seconds / goodput / DAY,
        state=state,
        stall=stall,
        write=write,
        interval=interval,
        goodput=goodput,
        expected=risk.formula(interval),
        seldom=risk.formula(every * step / given.slices),
    )


def latent_bytes(config: ConfigDict) -> float:
    """Of an encoded image: mean and log variance in bf16."""
    return latent_size(config) ** 2 * config.model.autoencoder.latent_channels * 2 * 2
