"""`python -m ernie_vilg_jax.encode`: mistakes end in one sentence."""

from pathlib import Path

from tests.commands import run_all


def test_mistakes_and_help(tmp_path: Path) -> None:
    given = ["encode", "--config=demo:base,smoke", f"--output={tmp_path / 'out'}", f"--checkpoint={tmp_path}"]
    nothing, latents, no_flag, help = run_all(
        [
            [*given, f"--input={tmp_path / 'in'}"],
            [*given, f"--input={tmp_path / 'in'}", "--crops=2"],
            ["encode", "--config=demo:base,smoke"],
            ["encode", "--help"],
        ]
    )
    for result, message in (
        (nothing, f"--input={tmp_path / 'in'} holds no manifest.json"),
        (latents, "--crops=2 central crops are all the same: add --config.data.crop=random"),
        (no_flag, "input"),
    ):
        assert result.status == 1 and "Traceback" not in result.stderr
        assert message in result.stderr.splitlines()[-1]
    assert "--checkpoint" in help.stdout and "finished shards are kept" in help.stdout
    assert not (tmp_path / "out").exists()
