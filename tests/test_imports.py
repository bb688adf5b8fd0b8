"""Imports: the tower never loads the packages beside it, and sampling never loads training."""

import subprocess
import sys

import pytest

BESIDE = ("preparation", "annotation")


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("data.loader", BESIDE),
        ("training.train", BESIDE),
        ("pipeline", (*BESIDE, "training")),
        ("sampling.generator", (*BESIDE, "training", "data", "pipeline")),
        ("models.unet", (*BESIDE, "training", "data", "errors", "config")),
    ],
)
def test_an_import_loads_only_lower_floors(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, ernie_vilg_jax.{module}; print(*(m for m in sys.modules if m.startswith('ernie_vilg_jax.')))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert f"ernie_vilg_jax.{module}" in loaded
    assert not [name for name in loaded if name.split(".")[1] in absent]
