"""Banks and bases are branched into other banks: the command, and the real `train`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.interop import bank
from ernie_vilg_jax.pipeline import load
from tests.interop.bank_jobs import Jobs, assert_equal, command, item, picture, with_base
from tests.tiny_run import MakeConfig, train


@pytest.mark.parametrize(
    ("old", "new", "origins"),
    [
        ((), (250, 500, 750), [0, 0, 0, 0]),
        ((500,), (250, 500, 750), [0, 0, 1, 1]),
        ((250, 500, 750), (500,), [0, 2]),  # two experts share each half: the less noisy one
        ((250, 500, 750), (), [0]),
        ((100, 900), (400, 600), [1, 1, 1]),
        ((300, 600), (299, 301), [0, 0, 2]),
        ((300, 600), (299, 302), [0, 1, 2]),
    ],
)
def test_who_was_in_charge_of_most(old: tuple[int, ...], new: tuple[int, ...], origins: list[int]) -> None:
    before, after = Stages(old, 1000), Stages(new, 1000)
    assert [bank.most_in_charge(before, *after.range_of(stage)) for stage in range(after.n)] == origins


@pytest.mark.hosts
@pytest.mark.slow
def test_a_branch_of_a_base_trains_like_the_experts_of_that_base(
    jobs: Jobs, whole_run: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    """To the last bit: only the starting point differs."""
    cuts = {"experts.n": 3, "experts.stages": "200,700"}
    config = make_config("experts", **cuts, **{"phases.experts.steps": 2, "phases.experts.batch_size": 6})
    usual = train(config, with_base(whole_run, tmp_path / "usual"))
    command("branch", whole_run / "base", tmp_path / "branch", n=3, stages="200,700")
    branched = train(config, tmp_path / "branch")
    assert int(branched["step"]) == 2
    for name in ("experts", "text_encoder", "autoencoder"):
        assert_equal(usual[name], branched[name])


@pytest.mark.slow
@pytest.mark.proofs
def test_a_bank_of_more_experts_draws_the_same(jobs: Jobs, merged: Path, tmp_path: Path, capsys: Any) -> None:
    command("branch", merged, tmp_path / "four", n=4)
    told = capsys.readouterr().out
    assert "expert_02  timesteps  500 to  749  starts from expert_01, which had 100% of them" in told
    assert f"--workdir={tmp_path / 'four'} --config.experts.n=4 --config.experts.stages=uniform" in told
    assert [path.name for path in (tmp_path / "four" / "experts").iterdir()] == ["checkpoints"]
    assert checkpointing.find(tmp_path / "four").name == "0"
    for stage, origin in enumerate((0, 0, 1, 1)):
        new, old = item(tmp_path / "four", f"expert_{stage:02d}"), item(merged, f"expert_{origin:02d}")
        assert_equal(new["ema"], old["ema"])
        assert_equal(new["params"], old["ema"])
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(new["opt"]))
    np.testing.assert_allclose(picture(tmp_path / "four"), picture(merged), atol=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "stages", "origins"),
    [
        pytest.param(1, None, [0], marks=pytest.mark.proofs),
        pytest.param(2, "log_snr", None, marks=pytest.mark.hosts),
        pytest.param(3, "450,900", [0, 1, 1], marks=pytest.mark.proofs),
    ],
)
def test_other_cuts(n: int, stages: str | None, origins: list[int] | None, merged: Path, tmp_path: Path) -> None:
    command("branch", merged, tmp_path / "out", n=n, stages=stages)
    pipe = load(tmp_path / "out")
    assert pipe.stages.n == n and len(pipe("红色的圆形", steps=2)) == 1
    origins = origins or [bank.most_in_charge(Stages((500,), 1000), *pipe.stages.range_of(k)) for k in range(n)]
    for stage, origin in enumerate(origins):
        assert_equal(item(tmp_path / "out", f"expert_{stage:02d}")["ema"], item(merged, f"expert_{origin:02d}")["ema"])


@pytest.mark.hosts
@pytest.mark.slow
def test_jobs_of_a_branch_of_an_export_are_merged(merged: Path, job_config: Callable[..., Any], tmp_path: Path) -> None:
    """End to end, from averages in bf16: every job branches separately and trains its share."""
    command("export", merged, tmp_path / "export")
    runs = []
    for experts in ((0, 2), (1,)):
        runs.append(tmp_path / f"job{experts[0]}")
        command("branch", tmp_path / "export", runs[-1], n=3)
        size = {"phases.experts.batch_size": 4 * len(experts)}
        state = train(job_config(*experts, **size, **{"experts.n": 3, "phases.experts.steps": 1}), runs[-1])
        assert int(state["step"]) == 1
    command("merge", *runs, tmp_path / "bank")
    assert len(load(tmp_path / "bank")("红色的圆形", steps=3)) == 1
    for stage in range(3):
        name = f"expert_{stage:02d}"
        assert_equal(item(tmp_path / "bank", name), item(runs[stage % 2], name))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "flags", "message"),
    [
        ("merged", {}, "branch needs --n=N"),
        ("merged", {"n": 3, "stages": "half"}, "--n=3 --stages=half: stages must be 'uniform', 'log_snr'"),
        ("merged", {"n": 3, "stages": "500"}, "--n=3 --stages=500: 3 stages need 2 boundaries, but 1 were given"),
        ("merged", {"n": 0}, "--n=0 --stages=uniform: the number of stages must be at least 1"),
        ("first", {"n": 2}, "has no expert_01, .* join the runs that trained its experts with `checkpoint merge`"),
        ("autoencoder", {"n": 2}, "is from the phase autoencoder; branch needs one from base or experts"),
    ],
)
@pytest.mark.proofs
def test_invalid_branches(
    source: str, flags: dict[str, Any], message: str, jobs: Jobs, merged: Path, whole_run: Path, tmp_path: Path
) -> None:
    places = {"merged": merged, "autoencoder": whole_run / "autoencoder", **jobs._asdict()}
    with pytest.raises(UserError, match=message) as caught:
        command("branch", places[source], tmp_path / "out", **flags)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
