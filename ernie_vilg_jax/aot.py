"""Says what training or sampling takes on a TPU slice, before you pay for one: does it fit, how fast could it be.

  pip install libtpu
  python -m ernie_vilg_jax.aot --topology=v5p:4x4x8 --config=configs/paper.py:experts \\
    --config.mesh.expert=2 --config.mesh.data=1 --config.mesh.fsdp=64 --config.phases.experts.batch_size=640
  python -m ernie_vilg_jax.aot --topology=v5p:4x4x8 --config=configs/paper.py --program=sampling --batch=128
  python -m ernie_vilg_jax.aot --topology=v5p:4x4x8 --config=configs/paper.py --program=all --output=reports --quick

Compiles the real program with the real TPU compiler; no TPU is needed, but minutes and some 10 GB of memory for the
paper's size. Prints, for one chip: parameters, optimizer, activations, memory against what the chip has, and the
compiler's own estimate of the time. --quick lets the compiler optimize less: it is done sooner, for a first look at the
memory, and its estimate is not worth reading. --search looks quickly for the largest multiple of the batch that fits,
and then compiles that in full, unless --quick is given, too.

--plan=docs/reports/paper writes the plan of a whole run from such reports, without compiling (docs/scale.md).

--program=all compiles every program that a run executes, and prints a row for each, and for each size of images where
config.data.sizes has several; reports and what is needed to go on after a kill are in the folder --output. Exit status
1: something does not fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import config_flags

from ernie_vilg_jax import cli
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.forecast import NAMES
from ernie_vilg_jax.paths import check_writable, write_atomically

if TYPE_CHECKING:
    from ernie_vilg_jax.forecast.report import Forecast

_CONFIG = config_flags.DEFINE_config_file("config", None, "What would be trained: configs/NAME.py:base or :experts.")
_TOPOLOGY = flags.DEFINE_string("topology", "", "The slice: v5e:4x8, v5p:4x4x8, v6e:16x16, tpu7x:4x4x4, ...")
_OUTPUT = flags.DEFINE_string("output", "", "Also write the report to this file; with --program=all, a folder.")
_PROGRAM = flags.DEFINE_enum(
    "program",
    "training",
    ["training", *NAMES, "all"],
    "training: a step of the config's phase. sampling: prompts to images with all experts. all: every one of them.",
)
_BATCH = flags.DEFINE_integer("batch", 0, "Of sampling: images at once; one a chip by default.")
_QUICK = flags.DEFINE_boolean("quick", False, "Compile with fewer optimizations: for the memory only.")
_SEARCH = flags.DEFINE_boolean("search", False, "Look for the largest multiple of the batch that fits.")
_PLAN = flags.DEFINE_string(
    "plan", "", "Compile nothing: plan the whole run from the reports of slices in this folder."
)
_ALSO = flags.DEFINE_multi_string("also", [], "With --plan: a slice without reports, scaled from one of its kind.")
_ASSUME = flags.DEFINE_multi_string("assume", [], "With --plan: NAME=VALUE, as the plan lists them.")
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    del argv
    if _PLAN.value:
        _plan()
        return
    if not _TOPOLOGY.value:
        raise UserError("--topology is missing: give the slice to compile for, such as v5p:4x4x8")
    if _PROGRAM.value == "all":
        _all()
    else:
        _one(_PROGRAM.value)


def _plan() -> None:
    """The page of a whole run."""
    from ernie_vilg_jax.forecast.plan import Assumptions, read_slices, scaled
    from ernie_vilg_jax.forecast.plan_page import page

    if _OUTPUT.value:
        check_writable(_OUTPUT.value, "output")
    given = Assumptions.of({name: value for name, _, value in (pair.partition("=") for pair in _ASSUME.value)})
    slices = read_slices(Path(_PLAN.value))
    slices += [scaled(slices, name) for name in _ALSO.value]
    flags_given = [f"--also={name}" for name in _ALSO.value] + [f"--assume={pair}" for pair in _ASSUME.value]
    config = f"--config={config_flags.get_config_filename(flags.FLAGS['config'])}"
    words = [config, f"--plan={_PLAN.value}", *flags_given, f"--output={_OUTPUT.value}"]
    line = f"python -m ernie_vilg_jax.aot {' '.join(words)}"
    text = page(_CONFIG.value, slices, given, line)
    print(text)
    if _OUTPUT.value:
        write_atomically(Path(_OUTPUT.value), text.encode())


def _one(program: str) -> None:
    """One report. A training step and sampling are compiled for the config's own mesh, the others as in the table."""
    from ernie_vilg_jax.forecast.abstract import config_for
    from ernie_vilg_jax.forecast.programs import build
    from ernie_vilg_jax.forecast.report import QUICK, forecast, search
    from ernie_vilg_jax.forecast.topology import describe
    from ernie_vilg_jax.sharding.mesh import make_mesh

    if _OUTPUT.value:
        check_writable(_OUTPUT.value, "output")
    devices, chip = describe(_TOPOLOGY.value)
    config = _CONFIG.value
    if program not in ("training", "sampling"):
        config = config_for(program, config, len(devices), chip)
    mesh = make_mesh(config.mesh, devices)
    phase = config.phase if program == "training" else program.split("_")[0]
    step = program == "training" or "step" in program

    def of(batch: int, effort: str) -> Forecast:
        if step:
            config.phases[phase].batch_size = batch
        return forecast(build(program, config, mesh, batch), chip, effort)

    batch = config.phases[phase].batch_size if step else _BATCH.value
    if _SEARCH.value:
        if not step and program != "sampling":
            raise UserError(f"--search goes with training steps and sampling, not with --program={program}")
        found = search(batch or mesh.size, lambda size: of(size, QUICK), print)
        if not _QUICK.value:
            found = of(found.batch, "")
    else:
        found = of(batch, QUICK if _QUICK.value else "")
    text = found.text()
    print(text)
    if _OUTPUT.value:
        write_atomically(Path(_OUTPUT.value), f"{text}\n".encode())
    if not found.fits:
        raise UserError(f"the program {found.verdict}; give a smaller batch, more chips, or remat=True")


def _all() -> None:
    """The table."""
    from ernie_vilg_jax.forecast.report import QUICK
    from ernie_vilg_jax.forecast.table import compile_all, jobs_of
    from ernie_vilg_jax.forecast.topology import describe

    if not _OUTPUT.value:
        raise UserError(
            "--program=all needs --output=FOLDER: its reports go there, and a killed run goes on from there"
        )
    if _SEARCH.value:
        raise UserError("--search looks for the batch of one program: it does not go with --program=all")
    check_writable(_OUTPUT.value, "output", "table.md")
    devices, chip = describe(_TOPOLOGY.value)
    effort = QUICK if _QUICK.value else ""
    jobs = jobs_of(_CONFIG.value, _TOPOLOGY.value, len(devices), chip, _BATCH.value, effort)
    if not compile_all(jobs, Path(_OUTPUT.value), lambda line: print(line, flush=True)):
        raise UserError(f"not every program fits: see the rows above, and the reports in {_OUTPUT.value}")


def run() -> None:
    """Console entry."""
    cli.run(main)


if __name__ == "__main__":
    run()
