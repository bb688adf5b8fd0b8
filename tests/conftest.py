"""Tests run on the CPU with eight fake devices; all of this must be set before jax is imported anywhere."""

import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks import quick

os.environ["JAX_PLATFORMS"] = "cpu"
FLAGS = f"--xla_force_host_platform_device_count=8 {quick.XLA_FLAGS}"
if quick.KNOWN:
    # Two workers have two cores: neither compiles parts of a program in parallel, nor schedules for more cores.
    FLAGS += " --xla_cpu_parallel_codegen_split_count=1 --xla_cpu_enable_concurrency_optimized_scheduler=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# Most of the time is compilation; with this cache, a second run of the tests takes a third of the first. Entries are
# keyed by program and compiler, so that deleting them is never needed, and always safe.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import ctypes  # noqa: E402
import gc  # noqa: E402

import jax  # noqa: E402
import pytest  # noqa: E402
from absl import flags  # noqa: E402

# Commands expect their own process; in that of the tests, flags of the same name may clash.
_define = flags.Flag.__init__
flags.Flag.__init__ = lambda self, *args, **options: _define(self, *args, **{**options, "allow_override": True})
# Grain's worker processes read an absl flag, which fails until a command has parsed its flags.
flags.FLAGS.mark_as_parsed()
pytest_plugins = ["tests.buckets", "tests.disks", "tests.random_model", "tests.small_data", "tests.tiny_run"]

ON_REQUEST = ("network", "documents", "hosts", "proofs")
"""Marks of tests that run only with -m."""
LONGEST = (
    "tests/documents/test_pages.py::test_what_the_readme_says",  # what it makes, most other pages wait for
    "tests/training/",
    "tests/interop/test_bank",
    "tests/test_end_to_end",
    "tests/test_notebooks",
    "tests/models/",
    "tests/test_aot",
    "tests/pipeline/",
    "tests/test_",
)
"""Beginnings of the names of tests that take longest: they begin first, so that no worker ends with one of them."""
LARGE = 3 * 2**30
"""Bytes in memory from which a worker forgets its compiled programs after a file."""


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # xdist would begin with the files of many, and so of short tests


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("markexpr", "") or ""
    left_out = [item for item in items if any(item.get_closest_marker(m) and m not in wanted for m in ON_REQUEST)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    place = lambda item: [not item.nodeid.startswith(start) for start in LONGEST]  # noqa: E731
    items.sort(key=place)
    # What was imported and collected stays; looking through it at each collection would take a tenth of the time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)  # more than in `cli.run`: nobody waits for the memory


@pytest.fixture(autouse=True, scope="session")
def _experts_in_a_loop() -> Iterator[None]:
    """As on TPUs, in one program: see training/in_turn.py."""
    from ernie_vilg_jax.training import in_turn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_turn, "PLATFORMS", ())
        yield


@pytest.fixture(autouse=True, scope="module")
def _forget_programs() -> Iterator[None]:
    """Compiled programs pile up, to 7 GB a worker."""
    yield
    memory = Path("/proc/self/statm")
    if memory.is_file() and int(memory.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") > LARGE:
        from tests import programs

        programs.forget()
        jax.clear_caches()
        # glibc keeps what is freed: without this the next file would find as much in memory, and forget again.
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
