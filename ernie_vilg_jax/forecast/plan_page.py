"""The page of a plan, docs/scale.md: the tables and figures of the template scale.md."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from ml_collections import ConfigDict

from ernie_vilg_jax.forecast.plan import (
    DAY,
    HOUR,
    Assumptions,
    Phase,
    Slice,
    checkpoint_bytes,
    latent_bytes,
    parameter_counts,
    plan_phase,
)
from ernie_vilg_jax.templates import render

SHARD_ENTRY = 357
"""Bytes of a shard of one source in a manifest."""
REQUESTS = 3
"""Reads of a bucket for a bin of a part (preparation/binned.py): places, rows, bytes."""
REQUEST_SECONDS = 0.03
MEANINGS = {
    "pairs": "the paper's",
    "base_steps": "the paper's",
    "experts_steps": "the paper's",
    "image_bytes": "of a stored image: a JPEG of about a megapixel",
    "text_bytes": "of a record's captions, words and boxes",
    "pairs_per_part": "of a tar that is prepared",
    "pairs_per_shard": "",
    "mfu": "of training, communication included; docs/tpu.md has 25 to 40% by the compiler's estimate without it",
    "encode_mfu": "of `encode`",
    "slices": "at once",
    "preemptions": "of a slice, a day",
    "restart_minutes": "a new slice, installation, restoring, compiling",
    "copy_gbs": "GB/s of a chip to its machine, for which training stops",
    "write_gbs": "GB/s of a machine to the bucket, while training goes on",
    "chips_per_host": "",
    "prepare_rate": "pairs a second and core; every image is decoded, and a megapixel took 18 ms",
    "cores": "that prepare",
}


def page(config: ConfigDict, slices: Sequence[Slice], given: Assumptions, line: str) -> str:
    """The whole page; `line` is the command that writes it."""
    counts = parameter_counts(config)
    state = checkpoint_bytes(counts, config.experts.n)
    tenfold = {name: 10 * getattr(given, name) for name in ("pairs", "base_steps", "experts_steps", "slices")}
    more = dataclasses.replace(given, **tenfold)
    every = config.train.checkpoint_every
    found, ten = (
        {
            (one.name, name): plan_phase(one, name, getattr(of, f"{name}_steps"), state[name], of, every)
            for one in slices
            for name in state
        }
        for of in (given, more)
    )
    once, within, even = _encode_shares(slices[0], given)
    return (
        render(
            "scale.md",
            **{"line": line, "config": config, "given": given, "more": more, "counts": counts},
            whole=config.experts.n * counts["unet"] + counts["text_encoder"] + counts["autoencoder"],
            assumptions=_table(
                ("", "value", ""),
                [(f"`{name}`", f"{getattr(given, name):,.12g}", text) for name, text in MEANINGS.items()],
            ),
            data=_data(config, given, more),
            encoding=_encoding(slices, given),
            training=_training(slices, found),
            checkpoints=_checkpoints(found, every),
            ten=_ten(ten, more),
            often=DAY / (more.preemptions * more.slices) / 60,
            reads=_reads(more),
            manifest=_bytes(_shards(more) * SHARD_ENTRY),
            positions=_bytes(8 * more.pairs),
            latents=_bytes(more.pairs * (latent_bytes(config) + more.text_bytes)),
            **{"once": once, "within": within, "even": even},
        )
        + "\n"
    )


def _parts(given: Assumptions) -> int:
    return math.ceil(given.pairs / given.pairs_per_part)


def _shards(given: Assumptions) -> int:
    return math.ceil(given.pairs / given.pairs_per_shard)


def _reads(given: Assumptions) -> float:
    return REQUESTS * _parts(given) * _shards(given)


def _data(config: ConfigDict, *plans: Assumptions) -> str:
    latent = latent_bytes(config)
    rows: dict[str, Callable[[Assumptions], str]] = {
        "records": lambda given: _bytes(given.pairs * (given.image_bytes + given.text_bytes)),
        f"latents of one crop, {latent / 1024:.0f} KiB each (mean and log variance in bf16)": lambda given: _bytes(
            given.pairs * (latent + given.text_bytes)
        ),
        "parts, shards": lambda given: f"{_parts(given):,}, {_shards(given):,}",
        "manifest": lambda given: _bytes(_shards(given) * SHARD_ENTRY),
        "`prepare`, core-hours": lambda given: f"{given.pairs / given.prepare_rate / HOUR:,.0f}",
        "hours on all cores": lambda given: f"{given.pairs / given.prepare_rate / given.cores / HOUR:,.1f}",
        "reads between its passes": lambda given: f"{_reads(given):,}",
        f"hours of these, on all cores, at {REQUEST_SECONDS * 1e3:.0f} ms each": lambda given: (
            f"{_reads(given) * REQUEST_SECONDS / given.cores / HOUR:,.1f}"
        ),
    }
    heads = ["", *(f"{given.pairs / 1e6:,.0f}M pairs" for given in plans)]
    return _table(heads, [(what, *map(of, plans)) for what, of in rows.items()])


def _encoding(slices: Sequence[Slice], given: Assumptions) -> str:
    rows = []
    for one in slices:
        program = one.programs["encoding"]
        each = program.flops / program.images
        hours = given.pairs * each / (one.chip.flops * given.encode_mfu) / HOUR
        bound = given.pairs / program.images * (program.seconds or 0) * one.chips / HOUR
        rows.append((one.name, f"{each / 1e12:.2f}", f"{hours:,.0f}", _known(bound), f"{hours / one.chips:,.1f}"))
    return _table(("slice", "TFLOP an image", "chip-hours", "bound", "hours on one slice"), rows)


def _training(slices: Sequence[Slice], phases: Mapping[tuple[str, str], Phase]) -> str:
    rows = []
    for one in slices:
        for name in ("base", "experts"):
            phase, program = phases[one.name, name], one.programs[f"{name}_step_encoded"]
            work = (f"{one.chips}", f"{program.images:,}", f"{phase.images / 1e6:,.0f}M", f"{phase.step_seconds:.2f} s")
            rows.append((one.name, name, *work, f"{phase.hours:,.0f}", _known(phase.bound), f"{phase.days:,.1f}"))
    heads = ("slice", "phase", "chips", "images a step", "images", "step", "chip-hours", "bound", "days, interrupted")
    return _table(heads, rows)


def _checkpoints(phases: Mapping[tuple[str, str], Phase], every: int) -> str:
    rows = []
    for (slice_name, name), phase in phases.items():
        steps = max(1, round(phase.interval / phase.step_seconds))
        saves = (_bytes(phase.state), f"{phase.stall:.2f} s", f"{phase.write:.0f} s")
        shares = [f"{share:.2%}" for share in (phase.goodput, phase.expected, phase.seldom)]
        rows.append((slice_name, name, *saves, f"{phase.interval / 60:.1f} min, {steps:,} steps", *shares))
    saves = ("checkpoint", "stops training", "written in", "best interval")
    return _table(("slice", "phase", *saves, "goodput", "by the formula", f"every {every:,} steps"), rows)


def _ten(phases: Mapping[tuple[str, str], Phase], more: Assumptions) -> str:
    rows = []
    for (slice_name, name), phase in phases.items():
        times = (f"{phase.step_seconds:.2f} s", f"{phase.hours:,.0f}", f"{phase.interval / 60:.1f} min")
        rows.append((f"{more.slices:,.0f} x {slice_name}", name, *times, f"{phase.goodput:.1%}", f"{phase.days:,.1f}"))
    return _table(("slices", "phase", "step", "chip-hours", "interval", "goodput", "days, interrupted"), rows)


def _encode_shares(one: Slice, given: Assumptions) -> tuple[float, float, float]:
    """Encoding every pair once, and encoding in every step, over the base's own work; times seen when they are even."""
    program, step = one.programs["encoding"], one.programs["base_step_encoded"]
    each, in_step = (program.flops / program.images / mfu for mfu in (given.encode_mfu, given.mfu))
    image = step.flops / step.images / given.mfu
    return given.pairs * each / (given.base_steps * step.images * image), in_step / image, each / in_step


def _known(hours: float | None) -> str:
    return f"{hours:,.0f}" if hours else ""


def _bytes(count: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows))
