"""`run(config, workdir)`: everything `python -m ernie_vilg_jax.train` does, for programs and tests."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
from absl import logging
from clu import parameter_overview
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax import checkpointing, huge_pages, paths
from ernie_vilg_jax.config import as_json, flat
from ernie_vilg_jax.data.records import read_manifest
from ernie_vilg_jax.data.tokenizers import Tokenizer, load_tokenizer
from ernie_vilg_jax.model import build_model
from ernie_vilg_jax.sharding import processes
from ernie_vilg_jax.sharding.mesh import make_mesh
from ernie_vilg_jax.training import lock, loop
from ernie_vilg_jax.training.init import build_task
from ernie_vilg_jax.training.profile import parse_window
from ernie_vilg_jax.training.resume import find_start
from ernie_vilg_jax.training.task import State


def run(
    config: ConfigDict,
    workdir: epath.PathLike,
    devices: Sequence[Any] | None = None,
    *,
    resume_from: int | None = None,
    allow_changes: Sequence[str] = (),
    profile_steps: str | None = None,
    evaluator: Callable[[ConfigDict, Tokenizer, Mesh], loop.Evaluate] | None = None,
) -> State:
    """Trains `config.phase` in `workdir`, from its last checkpoint if any, on `devices` (all by default).

    Returns the final state.

    `workdir` may be a gs:// URL; `resume_from` and `allow_changes` are those of `resume.find_start`; `profile_steps`,
    such as "100:105", are traced; `evaluator` makes what judges images if `config.evaluation.every` asks for it. With
    several processes (see sharding/processes.py) all of them call this.
    Raises UserError for errors that users can fix, loop.Stopped after SIGTERM or SIGINT.
    """
    window = parse_window(profile_steps) if profile_steps is not None else None
    workdir = paths.reach(workdir, "workdir")
    tokenizer = load_tokenizer(config)
    config = config.copy_and_resolve_references()
    # A small corpus gives a smaller vocabulary than requested.
    config.tokenizer.vocab_size = tokenizer.vocab_size
    _check_processes(config, workdir)
    model = build_model(config)
    mesh = make_mesh(config.mesh, devices)
    folder = checkpointing.phase_folder(workdir, config.phase)
    if folder.name != config.phase:
        logging.info(
            "note: the phase %s was called %s when this run began; it goes on in %s", config.phase, folder.name, folder
        )
    # Process 0 for all: the others wait for it.
    alone = lock.locked(workdir) if processes.index() == 0 else contextlib.nullcontext()
    with alone, jax.set_mesh(mesh):
        start = find_start(folder / "checkpoints", config, tokenizer, resume_from, allow_changes)
        task = build_task(config, model, tokenizer, mesh, workdir, start and start.path)
        logging.info("%s on %d x %s", config.phase, mesh.size, mesh.devices.flat[0].device_kind)
        if mesh.devices.flat[0].platform == "cpu" and (tip := huge_pages.tip()):
            logging.info(tip)
        for name, tree in task.parameters.items():
            logging.info("%s: %.1fM parameters", name, parameter_overview.count_parameters(tree) / 1e6)
        wanted = evaluator is not None and config.evaluation.every and config.phase != "autoencoder"
        evaluate = evaluator(config, tokenizer, mesh) if evaluator is not None and wanted else None
        return loop.train(task, config, tokenizer, mesh, folder, start, window, evaluate)


def _check_processes(config: ConfigDict, workdir: epath.Path) -> None:
    """Raises UserError if the arguments of processes differ: they would hang, or train wrongly."""
    values = flat(as_json(config), "config.")
    del values["config.data.path"]  # each machine may have its own copy
    processes.agree(
        {"number of processes": processes.count(), "data": read_manifest(config.data.path)["fingerprint"], **values}
    )
    processes.check_shared(workdir)
