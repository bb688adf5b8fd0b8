"""Flags as they were before each test, and a config file."""

import sys
import threading
import warnings
from pathlib import Path

import pytest
from absl import logging as absl_logging
from absl.testing import flagsaver

from tests.cli.commands import CONFIG, define_config


@pytest.fixture(autouse=True)
def restored_flags():
    handler = absl_logging.get_absl_handler()
    verbosity = absl_logging.get_verbosity()
    before = warnings.formatwarning, threading.excepthook, sys.unraisablehook
    # Again, because a command imported by another test may also have a flag of this name.
    define_config()
    with flagsaver.flagsaver(), warnings.catch_warnings():
        yield
    warnings.formatwarning, threading.excepthook, sys.unraisablehook = before
    absl_logging.set_verbosity(verbosity)
    handler.setFormatter(None)
    for filter_ in list(handler.filters):
        handler.removeFilter(filter_)


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/demo.py").write_text(CONFIG)
    return "configs/demo.py"
