"""Experts trained apart and together, once for all tests of banks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.interop.bank_jobs import STEPS, Jobs, command, same_samples, with_base
from tests.tiny_run import MakeConfig, once, train


@pytest.fixture(scope="session")
def job_config(make_config: MakeConfig) -> Callable[..., Any]:
    def make(*experts: int, **changes: Any) -> Any:
        settings = {"experts.train": experts, "phases.experts.steps": STEPS, "phases.experts.batch_size": 4}
        settings["phases.experts.learning_rate"] = 1e-2
        quiet = {"train.preview_every": 0, "train.validate_every": 0}
        return make_config("experts", **{**settings, **quiet, **changes})

    return make


@pytest.fixture(scope="session")
def pictures() -> dict[str, np.ndarray]:
    """The input of all experts: filled by `jobs`."""
    return {}


@pytest.fixture(scope="session")
def jobs(
    whole_run: Path,
    job_config: Callable[..., Any],
    pictures: dict[str, np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> Jobs:
    def make(folder: Path) -> None:
        made = Jobs(*(with_base(whole_run, folder / name) for name in Jobs._fields))
        with same_samples(pictures):
            train(job_config(0), made.first, own_programs=True)
            train(job_config(1), made.second, own_programs=True)
        np.savez(folder / "pictures.npz", allow_pickle=False, **pictures)

    folder = once(tmp_path_factory, "jobs", make)
    with np.load(folder / "pictures.npz") as made:
        pictures.update(made)
    return Jobs(*(folder / name for name in Jobs._fields))


@pytest.fixture(scope="session")
def together(
    jobs: Jobs,
    whole_run: Path,
    job_config: Callable[..., Any],
    pictures: dict[str, np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Working directory in which the same base was branched into both experts, after `jobs` set their samples."""
    workdir = with_base(whole_run, tmp_path_factory.mktemp("together"))
    with same_samples(pictures):
        train(job_config(**{"phases.experts.batch_size": 8}), workdir, own_programs=True)
    return workdir


@pytest.fixture(scope="session")
def merged(jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("merged")
    command("merge", jobs.first, jobs.second, workdir)
    return workdir
