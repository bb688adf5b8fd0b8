"""What a command sets in its environment."""

import os
import subprocess
import sys

import pytest

from ernie_vilg_jax import cli
from ernie_vilg_jax.chips import ABSENT, without_tpu


@pytest.mark.parametrize(("before", "after"), [("2", "4"), ("0", "0"), (None, None)])
def test_the_runtime_is_silenced_unless_a_level_was_chosen(before: str | None, after: str | None, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    if before is not None:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", before)
    cli.silence_runtime()
    assert os.environ.get("TF_CPP_MIN_LOG_LEVEL") == after


SAY_DEVICES = """
import sys
from ernie_vilg_jax import cli
def main(argv):
    import jax
    print(jax.devices()[0].platform)
cli.run(main, ["command"])
"""


def test_an_installed_libtpu_without_a_tpu_prints_nothing():
    pytest.importorskip("libtpu")
    environment = {name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    environment = {name: value for name, value in environment.items() if name not in ABSENT}
    done = subprocess.run(
        [sys.executable, "-c", SAY_DEVICES], env=environment, text=True, capture_output=True, check=True
    )
    if done.stdout != "tpu\n":
        assert not done.stderr


@pytest.mark.parametrize("device", ["accel0", "vfio/0", None])
def test_variables_of_a_tpu_are_left_alone(device: str | None, monkeypatch, tmp_path):
    for name in ABSENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "mine")
    (tmp_path / "vfio").mkdir()
    (tmp_path / "vfio/vfio").touch()  # of any machine with the driver
    if device:
        (tmp_path / device).touch()
    without_tpu(tmp_path)
    found = {name: os.environ.get(name) for name in ABSENT}
    expected = dict.fromkeys(ABSENT) if device else dict(ABSENT)
    assert found == {**expected, "TPU_WORKER_HOSTNAMES": "mine"}


def test_compilation_cache_respects_the_environment(monkeypatch, tmp_path):
    import jax

    before = jax.config.values["jax_compilation_cache_dir"]
    try:
        jax.config.update("jax_compilation_cache_dir", "/elsewhere")
        assert cli.enable_compilation_cache() == "/elsewhere"
        jax.config.update("jax_compilation_cache_dir", None)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cli.enable_compilation_cache() == str(tmp_path / "ernie_vilg_jax" / "xla")
        assert (tmp_path / "ernie_vilg_jax" / "xla").is_dir()
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
