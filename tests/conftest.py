"""Tests run on the CPU with eight fake devices; all of this must be set before jax is imported anywhere."""

import os
from importlib.metadata import version
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
# Optimising code that runs once takes longer than running it: level 0 halves the time of the tests.
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):  # later ones refuse unknown flags
    # The older fusion emitters compile a training step in half the time.
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# Most of the time is compilation; with this cache, a second run of the tests takes a third of the first. Entries are
# keyed by program and compiler, so that deleting them is never needed, and always safe.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import pytest  # noqa: E402
from absl import flags  # noqa: E402

# Commands expect their own process; in that of the tests, flags of the same name may clash.
_define = flags.Flag.__init__
flags.Flag.__init__ = lambda self, *args, **options: _define(self, *args, **{**options, "allow_override": True})
# Grain's worker processes read an absl flag, which fails until a command has parsed its flags.
flags.FLAGS.mark_as_parsed()
pytest_plugins = ["tests.buckets", "tests.disks", "tests.random_model", "tests.small_data", "tests.tiny_run"]

ON_REQUEST = ("network", "hosts")
"""Marks of tests that run only with -m."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("markexpr", "") or ""
    left_out = [item for item in items if any(item.get_closest_marker(m) and m not in wanted for m in ON_REQUEST)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
