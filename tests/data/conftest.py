"""Small prepared data of drawn shapes, shared by the data tests; nothing here touches the network."""

from pathlib import Path

import pytest
from data_helpers import make_config
from ml_collections import ConfigDict

from ernie_vilg_jax.data.annotation import annotate
from ernie_vilg_jax.data.preparation import prepare


@pytest.fixture
def config() -> ConfigDict:
    return make_config()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole prepared directory; tests must not change it."""
    path = tmp_path_factory.mktemp("prepared")
    prepare(make_config(), path)
    return path


@pytest.fixture
def ready(prepared: Path) -> ConfigDict:
    """A config whose data is prepared."""
    return make_config(path=str(prepared))


@pytest.fixture(scope="session")
def annotated(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared directory after annotation with the taggers of both languages; tests must not change it."""
    path = tmp_path_factory.mktemp("annotated") / "data"
    annotate(str(prepared), str(path))
    return path
