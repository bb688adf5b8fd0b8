"""--config and its overrides: names, old names, and mistakes."""

import pytest

from tests.cli.commands import given_config, run, train


def test_config_overrides_reach_the_config(monkeypatch, capsys, config_file):
    overrides = ("--config.train.steps=7", "--config.sources[0].count=2")
    assert run(monkeypatch, train, f"--config={config_file}", *overrides) == 0
    assert capsys.readouterr().out == "7\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--wrod=x"], "Unknown command line flag 'wrod'. Did you mean: word ?; --help lists the flags."),
        (["extra"], "Unexpected argument 'extra': write --flag=value; --help lists the flags."),
        (["--config=configs/dmo.py"], "there is no file configs/dmo.py; did you mean configs/demo.py."),
        (
            ["--config=elsewhere"],
            "there is no file elsewhere; configs here: configs/demo.py, ablation, demo, medium_300m, ",
        ),
        (["--config="], "there is no file"),
        (["--config.seed=1"], "--config.seed overrides a value of a config, but no --config is given."),
        (["--config=configs/demo.py", "--config.train.setps=3"], "did you mean --config.train.steps?"),
        (["--config=configs/demo.py", "--config.steps=3"], "did you mean --config.train.steps?"),
        (["--config=configs/demo.py", "--config.zzz=3"], "it has seed, sources, train.learning_rate, train.steps."),
        (["--config=configs/demo.py", "--config.sources[1].count=3"], "--config.sources[1].count: configs/demo.py has"),
        (["--config", "configs/demo.py", "--config.train.steps", "many"], "--config.train.steps=many"),
        (["--config=configs/demo.py:broken"], "the config file failed with ValueError: no such variant"),
        (["--config=configs/demo.py:broken", "--config.seed=1"], "failed with ValueError: no such variant"),
    ],
)
def test_mistakes_in_flags_are_one_sentence(monkeypatch, capsys, config_file, arguments, sentence):
    assert run(monkeypatch, train, *arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert sentence in err


def test_old_names_are_read_with_one_note(monkeypatch, capsys, tmp_path):
    """--config=demo:stage2 and --config.stage2.x, of version 0.1, from any folder."""
    monkeypatch.chdir(tmp_path)

    def show(argv):
        config = given_config()
        print(config.phase, config.phases.experts.steps, config.phases.base.learning_rate, config.seed)

    arguments = ("--config=demo:stage2,smoke", "--config.stage2.steps=7", "--config.stage1.learning_rate", "0.5")
    assert run(monkeypatch, show, *arguments, "--config.seed=3") == 0
    out, err = capsys.readouterr()
    assert out == "experts 7 0.5 3\n"
    assert err.count("\n") == 1 and err.startswith("note: the phases stage1 and stage2 are called base and experts now")
    assert "--config=demo:experts,smoke --config.phases.experts.steps" in err


@pytest.mark.parametrize("name", ["demo", "paper", "ablation"])
def test_a_config_of_the_package_is_found_by_its_name(monkeypatch, capsys, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, lambda argv: print(given_config().name), f"--config={name}:base") == 0
    assert capsys.readouterr() == (f"{name}\n", "")
