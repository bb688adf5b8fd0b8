"""Imports: the tower never loads the packages beside it, and sampling never loads training."""

import json
import subprocess
import sys

import pytest

BESIDE = ("preparation", "annotation")
ABSENT = {
    "data.loader": BESIDE,
    "training.train": BESIDE,
    "pipeline": (*BESIDE, "training"),
    "sampling.generator": (*BESIDE, "training", "data", "pipeline"),
    "models.unet": (*BESIDE, "training", "data", "errors", "config"),
}
"""Module -> what it must not load."""
IMPORT_EACH = """
import importlib, json, sys
found = {}
for module in sys.argv[1:]:
    for name in [name for name in sys.modules if name.split(".")[0] == "ernie_vilg_jax"]:
        del sys.modules[name]
    importlib.import_module(f"ernie_vilg_jax.{module}")
    found[module] = [name for name in sys.modules if name.startswith("ernie_vilg_jax.")]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """Module -> modules of ours that it loads, in a process that has loaded other packages once."""
    command = [sys.executable, "-c", IMPORT_EACH, *ABSENT]
    found: dict[str, list[str]] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


@pytest.mark.parametrize("module", ABSENT)
def test_an_import_loads_only_lower_floors(module: str, loaded: dict[str, list[str]]) -> None:
    assert f"ernie_vilg_jax.{module}" in loaded[module]
    assert not [name for name in loaded[module] if name.split(".")[1] in ABSENT[module]]
