"""The snippets of docs/api.md run, one after the other."""

import re
from pathlib import Path
from typing import Any

import pytest

import ernie_vilg_jax
from ernie_vilg_jax.pipeline import Pipeline
from ernie_vilg_jax.sampling_params import DEFAULTS

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.mark.documents
def test_the_page_of_the_api_runs(pipe: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ernie_vilg_jax, "load", lambda: pipe, raising=False)
    names: dict[str, Any] = {}
    snippets = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(snippets) == 7
    for snippet in snippets:
        exec(compile(snippet, "docs/api.md", "exec"), names)
    made = sorted(path.name for path in tmp_path.glob("*.png"))
    assert made == ["apple.png", "panda.png", "preview_10.png", "preview_20.png", "second.png"]
    assert len(names["lions"]) == 2 and names["maps"].maps.shape[0] == 20


def test_the_page_names_every_option() -> None:
    table = PAGE.split("## Options")[1].split("##")[0]
    assert {name for name in DEFAULTS if f"`{name}`" not in table} == set()
