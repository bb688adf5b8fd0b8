"""The plan of a `train` command, without running it: `train --dry_run`.

Makes all checks of a start, and computes sizes from shapes and shardings alone. Nothing is compiled or allocated, so
the devices are not needed. Only a compiler knows the memory of activations: use `aot` for that.
"""

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from clu import parameter_overview
from etils import epath
from jax.sharding import AbstractMesh, Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing, compatibility, paths
from ernie_vilg_jax.data.loader import fixed_examples, make_loader
from ernie_vilg_jax.data.records import read_manifest
from ernie_vilg_jax.data.sizes import sizes_of
from ernie_vilg_jax.data.tokenizers import Tokenizer, load_tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import bank
from ernie_vilg_jax.model import build_model
from ernie_vilg_jax.sharding import rules
from ernie_vilg_jax.training import lock, resume
from ernie_vilg_jax.training.autoencoder import AutoencoderTask
from ernie_vilg_jax.training.diffusion import DiffusionTask
from ernie_vilg_jax.training.encoded import check_autoencoder, is_encoded
from ernie_vilg_jax.training.init import beginnings, check_cache
from ernie_vilg_jax.training.resident import check_resident
from ernie_vilg_jax.training.task import Task
from ernie_vilg_jax.training.validation import Validation

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices of a planned run.

    Attributes:
      mesh: of real devices, or of devices of another machine.
      name: of one device.
      memory: bytes of one device; None if not known.
      here: whether this is the machine of the run. If not, files that are missing here may exist there.
    """

    mesh: Mesh | AbstractMesh
    name: str
    memory: float | None
    here: bool


@dataclasses.dataclass
class Plan:
    """Rows of the report, in order, and what could not be checked."""

    rows: dict[str, str] = dataclasses.field(default_factory=dict)
    unchecked: list[str] = dataclasses.field(default_factory=list)

    def text(self) -> str:
        rows = [f"  {name:24s} {value}" for name, value in self.rows.items()]
        rows += [f"  not checked: {what}" for what in self.unchecked]
        far = ", as far as was checked" if self.unchecked else ""
        return "\n".join([*rows, f"  verdict: it would start{far}"])


def make_plan(
    config: ConfigDict,
    workdir: epath.PathLike | None,
    devices: Devices,
    *,
    resume_from: int | None = None,
    allow_changes: Sequence[str] = (),
) -> Plan:
    """The plan of `train.run` with the same arguments. Raises UserError for anything that it would refuse.

    `workdir` and `config.data.path` may be missing: checks that depend on them are then skipped.
    """
    plan = Plan()
    config = config.copy_and_resolve_references()
    tokenizer = _look_at_data(plan, config, devices.here)
    if tokenizer is not None:
        config.tokenizer.vocab_size = tokenizer.vocab_size
    task = _make_task(config, devices.mesh)
    _look_at_sizes(plan, config, task, devices)
    # A checkpoint is the state, split into items; what adapters are added to is in none.
    kept = {"experts": task.abstract.get("experts"), "rest": jax.eval_shape(task.items, task.abstract)}
    saved = _bytes(kept)
    keep = config.train.keep_checkpoints
    plan.rows["checkpoint"] = (
        f"{saved / GIB:.2f} GiB each, {keep} kept, one every {config.train.checkpoint_every} steps"
    )
    folder = _look_at_workdir(plan, config, workdir, devices.here)
    if folder is None:
        plan.unchecked.append("what the run goes on from or begins as")
    else:
        step = _look_at_start(plan, config, folder, tokenizer, resume_from, allow_changes)
        plan.rows["steps"] = f"{step or 0} to {task.steps}"
        if devices.here and not paths.is_url(folder):
            held = len(checkpointing.steps(checkpointing.phase_folder(folder, config.phase) / "checkpoints"))
            _check_room(plan, folder, saved * max(keep + 1 - held, 1))
    return plan


def _look_at_data(plan: Plan, config: ConfigDict, here: bool) -> Tokenizer | None:
    path = config.data.path
    if not path:
        plan.unchecked.append("the data and their tokenizer: --config.data.path is not given")
        return None
    try:
        found = paths.reach(path, "config.data.path").is_dir()
    except UserError as error:
        if here:
            raise
        plan.unchecked.append(f"the data and their tokenizer: {error}")
        return None
    if not found and not here:
        plan.unchecked.append(f"the data and their tokenizer: {path} is not on this machine")
        return None
    tokenizer = load_tokenizer(config)
    quick = config.copy_and_resolve_references()
    quick.data.verify_shards = False
    make_loader(quick, tokenizer, batch_size=config.phases[config.phase].batch_size, seed=config.seed, workers=0)
    assert fixed_examples(quick, tokenizer, "holdout", 1, config.seed)[0], "one is read, so that it can be"
    splits = read_manifest(path)["splits"]
    counts = [f"{sum(shard['records'] for shard in splits[name]['shards'])} {name}" for name in ("train", "holdout")]
    kind = ", latents of the training images" if is_encoded(config) else ""
    plan.rows["data"] = f"{path}: {', '.join(counts)} records{kind}, a vocabulary of {tokenizer.vocab_size}"
    if config.data.verify_shards:
        plan.unchecked.append("the sha256 of the shards, which a start compares")
    return tokenizer


def _make_task(config: ConfigDict, mesh: Any) -> Task:
    model, nothing = build_model(config), Validation(0, {}, {})
    if config.phase == "autoencoder":
        return AutoencoderTask(config, model, mesh, nothing)
    check_cache(config)
    check_resident(config)
    return DiffusionTask(config, model, mesh, nothing)


def _look_at_sizes(plan: Plan, config: ConfigDict, task: Task, devices: Devices) -> None:
    mesh, section = devices.mesh, config.phases[config.phase]
    axes = ", ".join(f"{axis}={size}" for axis, size in mesh.shape.items())
    plan.rows["config"] = f"{config.name}, {config.model.image_size} x {config.model.image_size} pixels"
    if isinstance(task, DiffusionTask) and len(sizes := sizes_of(config)) > 1:
        plan.rows["sizes"] = f"{', '.join(map(str, sizes))}; steps, validation and previews are compiled for each"
    plan.rows["phase"] = config.phase
    plan.rows["steps"] = f"0 to {task.steps}, if fresh"
    plan.rows["devices"] = f"{mesh.size} x {devices.name}: {axes}"
    groups, across = mesh.shape["expert"], mesh.shape["data"] * mesh.shape["fsdp"]
    batch = f"{task.batch_size} images a step, {task.batch_size / (groups * across):g} a device"
    if isinstance(task, DiffusionTask):
        pieces = len(task.trained) * section.accumulation_steps
        batch += f": {task.batch_size // (pieces * across)} at once"
        batch += ", expert by expert" if len(task.trained) > 1 else ""
        batch += f", in {section.accumulation_steps} micro-batches" if section.accumulation_steps > 1 else ""
    plan.rows["batch"] = batch
    for name, tree in task.parameters.items():
        plan.rows[name] = f"{parameter_overview.count_parameters(tree) / 1e6:.1f}M parameters"
    state = rules.local_bytes(task.abstract)
    plan.rows["state"] = f"{state / GIB:.2f} GiB a device" + (
        f" of {devices.memory / GIB:.0f}" if devices.memory else " (of how much is not known)"
    )
    plan.rows["beside it"] = "activations, gradients, gathered weights: `python -m ernie_vilg_jax.aot` compiles them"
    if devices.memory and state > devices.memory:
        raise UserError(
            f"the state of {config.phase} takes {state / GIB:.1f} GiB of each {devices.name}, which has "
            f"{devices.memory / GIB:.0f}: cut it over more devices with --config.mesh.fsdp (now {mesh.shape['fsdp']}; "
            f"{axes})"
        )


def _look_at_workdir(plan: Plan, config: ConfigDict, given: epath.PathLike | None, here: bool) -> epath.Path | None:
    """The working directory; None if this machine cannot read it."""
    if not given:
        plan.unchecked.append("the working directory: --workdir is not given")
        return None
    try:
        workdir = paths.reach(given, "workdir")
    except UserError as error:
        if here:
            raise
        plan.unchecked.append(f"the working directory: {error}")
        return None
    if not workdir.is_dir() and not here:
        plan.unchecked.append(f"the working directory: {given} is not on this machine")
        return None
    if (workdir / lock.NAME).exists():
        with lock.locked(workdir):
            pass
    return workdir


def _look_at_start(
    plan: Plan,
    config: ConfigDict,
    workdir: epath.Path,
    tokenizer: Tokenizer | None,
    resume_from: int | None,
    allow_changes: Sequence[str],
) -> int | None:
    """The step that the run resumes from; None for a fresh one."""
    directory = checkpointing.phase_folder(workdir, config.phase) / "checkpoints"
    step = resume.chosen_step(directory, resume_from)
    if step is None:
        begins = beginnings(config, workdir, tokenizer)
        if tokenizer is not None and config.phase != "autoencoder":
            check_autoencoder(config, begins.get("autoencoder") or begins["all parts"])
        plan.rows["begins"] = "; ".join(f"{part} from {path}" for part, path in begins.items()) or "from nothing"
        return None
    path = directory / str(step)
    plan.rows["goes on"] = f"from {path}"
    if tokenizer is not None:
        changed = resume.check(path, config, tokenizer, allow_changes)
        if config.phase != "autoencoder":
            check_autoencoder(config, path)
        if changed:
            plan.rows["changes"] = ", ".join(changed)
    else:
        compatibility.check_same(path, config, config.phase)
        bank.check_trained(path, config)
        plan.unchecked.append("settings that may not change within a run, which are compared together with the data")
    return step


def _check_room(plan: Plan, folder: epath.Path, needed: float) -> None:
    place = next(
        place for place in (Path(folder).absolute(), *Path(folder).absolute().parents) if os.path.exists(place)
    )
    if not place.is_dir() or not os.access(place, os.W_OK, effective_ids=True):
        raise UserError(f"--workdir={folder} cannot be written: {place} is no folder that this user may write to")
    free = shutil.disk_usage(place).free
    plan.rows["disk"] = f"{free / GIB:.1f} GiB free, {needed / GIB:.2f} needed for checkpoints"
    if free < needed:
        raise UserError(
            f"--workdir={folder} has {free / GIB:.1f} GiB free, and its checkpoints need {needed / GIB:.1f}: free some "
            "space, or keep fewer with --config.train.keep_checkpoints"
        )


def _bytes(tree: Any) -> float:
    return float(sum(leaf.size * getattr(leaf.dtype, "itemsize", 4) for leaf in jax.tree.leaves(tree)))
