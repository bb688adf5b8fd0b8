"""What a command sets in its environment."""

import os

import pytest

from ernie_vilg_jax import cli


@pytest.mark.parametrize(("before", "after"), [("2", "4"), ("0", "0"), (None, None)])
def test_the_runtime_is_silenced_unless_a_level_was_chosen(before: str | None, after: str | None, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    if before is not None:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", before)
    cli.silence_runtime()
    assert os.environ.get("TF_CPP_MIN_LOG_LEVEL") == after


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
