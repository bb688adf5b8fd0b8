"""`run(config, workdir)`: everything `python -m ernie_vilg_jax.train` does, for programs and tests."""

import json
from collections.abc import Sequence
from typing import Any

import jax
from absl import logging
from clu import parameter_overview
from etils import epath
from ml_collections import ConfigDict

from ernie_vilg_jax.data.records import read_manifest
from ernie_vilg_jax.data.tokenizers import load_tokenizer
from ernie_vilg_jax.parallel import distributed
from ernie_vilg_jax.parallel.mesh import make_mesh
from ernie_vilg_jax.system import build_system
from ernie_vilg_jax.training import folders, loop
from ernie_vilg_jax.training.build import build_task
from ernie_vilg_jax.training.task import State


def run(config: ConfigDict, workdir: epath.PathLike, devices: Sequence[Any] | None = None) -> State:
    """Trains `config.target` in `workdir` from wherever it stands, on `devices` (all), and returns the final state.

    `workdir` may be a gs:// URL. With several processes (see parallel/distributed.py) all of them call this.
    Raises UserError for what a person can mend, loop.Stopped after SIGTERM or SIGINT.
    """
    workdir = folders.reach(workdir, "workdir")
    tokenizer = load_tokenizer(config)
    config = config.copy_and_resolve_references()
    # A small corpus gives a smaller vocabulary than was asked for.
    config.tokenizer.vocab_size = tokenizer.vocab_size
    _check_hosts(config, workdir)
    system = build_system(config)
    mesh = make_mesh(config.mesh, devices)
    with jax.set_mesh(mesh):
        task = build_task(config, system, tokenizer, mesh, workdir)
        logging.info("%s on %d x %s", config.target, mesh.size, mesh.devices.flat[0].device_kind)
        for name, tree in task.parameters.items():
            logging.info("%s: %.1fM parameters", name, parameter_overview.count_parameters(tree) / 1e6)
        return loop.train(task, config, tokenizer, mesh, workdir / config.target)


def _check_hosts(config: ConfigDict, workdir: epath.Path) -> None:
    """Raises UserError where hosts differ in what they were given: they would wait for ever, or train nonsense."""
    values: dict[str, Any] = {}
    for section, fields in json.loads(config.to_json_best_effort()).items():
        flat = {f"config.{section}.{name}": value for name, value in fields.items()} if isinstance(fields, dict) else {}
        values |= flat or {f"config.{section}": fields}
    del values["config.data.path"]  # each host may have its own copy
    distributed.agree(
        {"number of hosts": distributed.hosts(), "data": read_manifest(config.data.path)["fingerprint"], **values}
    )
    distributed.check_shared(workdir)
