import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from benchmarks import compare

TINY = compare.Size(64, (1, 1), 4, 2, (32, 32), 1)


def test_both_have_the_same_architecture() -> None:
    pytest.importorskip("diffusers")
    args = jnp.zeros((2, 4, 4, 4)), jnp.zeros(2), jnp.zeros((2, 5, 256)), jnp.ones((2, 5), bool), jnp.zeros((2, 256))
    mine = jax.eval_shape(compare.our_unet(TINY).init, jax.random.key(0), *args)
    other = sum(parameter.numel() for parameter in compare.their_unet(TINY).parameters())
    assert abs(sum(leaf.size for leaf in jax.tree.leaves(mine)) / other - 1) < 0.02


@pytest.mark.slow
@pytest.mark.proofs
@pytest.mark.parametrize("program", compare.PROGRAMS)
@pytest.mark.parametrize("how", ["ours", "channels_last"])
def test_every_program_runs(program: str, how: str) -> None:
    pytest.importorskip("diffusers")
    run = compare.ours(TINY, program) if how == "ours" else compare.theirs(TINY, program, how)
    run()


def test_resumes_and_reports_the_fastest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = {"ours": 0.5, "eager": 1.0, "channels_last": 0.75}
    asked: list[str] = []

    def measure(name: str, repeats: int) -> dict[str, Any]:
        asked.append(name)
        how = name.rsplit("/", 1)[1]
        return {"median": seconds[how]} if how in seconds else {"error": "no compiler"}

    output = tmp_path / "found.json"
    monkeypatch.setattr(compare, "measure", measure)
    line = ["compare", f"--output={output}", "--sizes=demo", "--programs=train", "--rounds=2"]
    output.write_text(json.dumps({"demo/train/ours": [{"median": 0.5}]}))
    monkeypatch.setattr(sys, "argv", line)
    compare.main()
    assert len(asked) == 7
    assert asked[:4] == [f"demo/train/{how}" for how in ("eager", "channels_last", "compiled", "ours")]
    assert "| demo | train | 500.0 | 1000.0 | 750.0 | - | 1.50 |" in capsys.readouterr().out
    compare.main()
    assert len(asked) == 7
