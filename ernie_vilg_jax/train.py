"""Trains the autoencoder, the base (text encoder and one U-Net) or the experts, in that order.

  python -m ernie_vilg_jax.train --config=configs/demo.py:autoencoder --config.data.path=data/demo --workdir=runs/demo
  python -m ernie_vilg_jax.train --config=configs/demo.py:base        --config.data.path=data/demo --workdir=runs/demo
  python -m ernie_vilg_jax.train --config=configs/demo.py:experts     --config.data.path=data/demo --workdir=runs/demo

The word after the colon is what is trained. Each goes to its own folder below --workdir: checkpoints, TensorBoard
scalars and picture grids, metrics.jsonl. The same command goes on where it stopped, also after SIGTERM, which saves
first (exit status 143). Any field of the config can be changed: --config.phases.base.steps=500 --config.seed=1.

On several machines, start the same command on each of them, with a --workdir that all see (gs://bucket/run, or a
mounted folder). --distributed finds the others on Cloud TPU pods, GKE, Slurm and Open MPI; elsewhere say who they are:

  ... --coordinator=10.0.0.2:1234 --num_processes=2 --process_id=0        on the host with that address
  ... --coordinator=10.0.0.2:1234 --num_processes=2 --process_id=1        on the other

--dry_run checks a command and prints its plan (steps, mesh, batch, memory, what it would go on from) without starting
it, here or for devices that are elsewhere:

  ... --config=paper:experts,v5p_256 --dry_run --topology=v5p:4x4x8             # or 2*v5p:4x4x8, gpu:8, cpu:1

Batch sizes are those of all processes together. When one process dies, the others stop within a minute (exit status
170). The same command for all of them goes on; there may be fewer or more of them. SIGTERM to one stops all.
"""

import sys

from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from ernie_vilg_jax import cli, shared_flags
from ernie_vilg_jax.data.manifests import read_manifest
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.paths import reach

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, then a colon and what to train.", lock_config=True
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder or gs:// URL of the run; created if missing.")
shared_flags.define_processes()
flags.adopt_module_key_flags(shared_flags)
RESUME_FROM = flags.DEFINE_integer(
    "resume_from", None, "Go back to the checkpoint of this step; those after it are set aside, not deleted."
)
PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps", None, "Trace these steps into WORKDIR/PHASE/profile: 100:105 are the five after step 100."
)
ALLOW_CHANGES = flags.DEFINE_list(
    "allow_changes", [], "Fields of the config that may differ from those of the checkpoint, such as seed,data.weights."
)
DRY_RUN = flags.DEFINE_boolean("dry_run", False, "Check the command and print what it would do, and do nothing.")
TOPOLOGY = flags.DEFINE_string(
    "topology", None, "With --dry_run: devices that are not here, such as v5p:4x4x8, 2*v5p:4x4x8, gpu:8 or cpu:1."
)


def main(argv: list[str]) -> None:
    config = CONFIG.value
    if config is None:
        raise UserError("--config is missing: name a file such as --config=configs/demo.py:base")
    if TOPOLOGY.value and not DRY_RUN.value:
        raise UserError(f"--topology={TOPOLOGY.value} is for --dry_run: training runs on the devices that are here")
    workdir = WORKDIR.value or ""
    if not workdir and not DRY_RUN.value:
        raise UserError("--workdir is missing: name a folder for checkpoints and logs, such as --workdir=runs/demo")
    if not config.data.path and not DRY_RUN.value:
        raise UserError("--config.data.path is missing: name the folder that `python -m ernie_vilg_jax.prepare` wrote")
    if not DRY_RUN.value:
        reach(workdir, "workdir")  # both before anything is loaded that takes seconds
        read_manifest(config.data.path)

    if TOPOLOGY.value:
        print_plan(config)
        return
    peers = shared_flags.peers()
    if shared_flags.have_peers():
        cli.silence_runtime()

    from ernie_vilg_jax.sharding import processes
    from ernie_vilg_jax.training.loop import Stopped
    from ernie_vilg_jax.training.train import run as train

    if DRY_RUN.value:
        with processes.together(*peers):
            print_plan(config)
        return
    cli.enable_compilation_cache()
    evaluator = None
    if config.evaluation.every:
        from ernie_vilg_jax.evaluation.in_training import Evaluator as evaluator
    saved = None
    with processes.together(*peers):
        try:
            going_on = {"resume_from": RESUME_FROM.value, "allow_changes": ALLOW_CHANGES.value}
            train(config, workdir, **going_on, profile_steps=PROFILE_STEPS.value, evaluator=evaluator)
        except Stopped as stopped:
            saved = f"{processes.name()}{stopped}"
    if saved:
        print(saved, file=sys.stderr)
        sys.exit(143)


def print_plan(config: ConfigDict) -> None:
    """Prints what this command would do, on the devices of --topology or of this machine."""
    import jax

    from ernie_vilg_jax.forecast import topology
    from ernie_vilg_jax.sharding import mesh, processes
    from ernie_vilg_jax.training.plan import Devices, make_plan

    if TOPOLOGY.value:
        jax.config.update("jax_platforms", "cpu")  # shapes need no accelerator, and another command may be using it
        count, slices, chip = topology.parse(TOPOLOGY.value)
        name = chip.name if chip else TOPOLOGY.value.partition(":")[0]
        devices = Devices(mesh.abstract_mesh(config.mesh, count, slices), name, chip and chip.hbm, here=False)
    else:
        found = mesh.make_mesh(config.mesh)
        device = found.devices.flat[0]
        memory = (device.memory_stats() or {}).get("bytes_limit")
        devices = Devices(found, device.device_kind, memory, here=True)
    plan = make_plan(config, WORKDIR.value, devices, resume_from=RESUME_FROM.value, allow_changes=ALLOW_CHANGES.value)
    if processes.index() == 0:
        print(plan.text())


def run() -> None:
    """Console entry point."""
    cli.run(main)


if __name__ == "__main__":
    run()
