"""Flags, help, errors and exit statuses of a command."""

import errno
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from ernie_vilg_jax import cli
from ernie_vilg_jax.cli import command
from ernie_vilg_jax.errors import UserError
from tests.cli.commands import run, say


def test_main_runs_with_flags(monkeypatch, capsys):
    assert run(monkeypatch, say, "--word=熊猫") == 0
    assert capsys.readouterr().out == "熊猫\n"


def test_garbage_is_collected_rarely_while_programs_are_traced(monkeypatch):
    before, seen = gc.get_threshold(), []
    try:
        gc.set_threshold(700)
        run(monkeypatch, lambda argv: seen.append(gc.get_threshold()[0]))
    finally:
        gc.set_threshold(*before)
    assert seen == [10_000]


def test_user_error_is_one_sentence_without_traceback(monkeypatch, capsys):
    def main(argv):
        raise UserError("No shard in data/;\n run prepare first.")

    assert run(monkeypatch, main) == 1
    assert capsys.readouterr().err == "error: No shard in data/; run prepare first.\n"


def test_bug_keeps_its_traceback(monkeypatch):
    def main(argv):
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(ZeroDivisionError):
        cli.run(main)


def wrapped(argv):
    try:
        raise OSError(errno.ENOSPC, "No space left on device", "/runs/x")
    except OSError as error:
        raise RuntimeError("the worker failed") from error


@pytest.mark.parametrize(
    ("main", "sentence"),
    [
        (lambda argv: Path("/").read_bytes(), "error: /: is a directory; a file belongs here"),
        (lambda argv: Path("/dev/null/x").mkdir(), "error: /dev/null/x: not a directory; a file is where a folder"),
        (lambda argv: Path("/dev/full").write_text("x"), "error: No space left on device (here, or where TMPDIR says)"),
        (wrapped, "error: /runs/x: no space left on device; free some space there and run the same command again"),
    ],
)
def test_file_system_errors_are_one_sentence(monkeypatch, capsys, main, sentence):
    assert run(monkeypatch, main) == 1
    err = capsys.readouterr().err
    assert err.startswith(sentence) and err.count("\n") == 1


def test_a_missing_file_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(FileNotFoundError):
        cli.run(lambda argv: Path("/nowhere/at/all").read_bytes())


def test_an_output_that_is_full_is_one_sentence(disk):
    full = disk(4).path / "output"
    full.write_bytes(bytes(4096))
    code = "from ernie_vilg_jax import cli\ndef main(argv): print('x' * 100)\ncli.run(main)\n"
    with full.open("a") as stdout:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("error: No space left on device") and done.stderr.count("\n") == 1


def test_interrupt_exits_130(monkeypatch, capsys):
    def main(argv):
        raise KeyboardInterrupt

    assert run(monkeypatch, main) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_help_shows_the_docstring_and_own_flags(monkeypatch, capsys):
    assert run(monkeypatch, say, "--help") == 0
    out = capsys.readouterr().out
    assert out.startswith("Two commands, and how tests run them")
    assert "--word" in out and "A word to say. (default: 'panda')" in out
    assert "--config.seed=1" in out
    assert "run_with_pdb" not in out, "flags of libraries belong to --helpfull"


def test_required_flags_are_named(monkeypatch, capsys):
    values = flags.FlagValues()
    for name in ("input", "output"):
        flags.DEFINE_string(name, None, "", flag_values=values)
        flags.mark_flag_as_required(name, flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    with pytest.raises(SystemExit) as stopped:
        command._parse(say, False, ["command"])
    assert stopped.value.code == 1
    assert capsys.readouterr().err.startswith("error: --input")


def test_positional_arguments_if_the_command_takes_them(monkeypatch, capsys):
    assert run(monkeypatch, say, "inspect", positional=True) == 0
    assert capsys.readouterr().out == "panda inspect\n"


def test_an_endless_message_is_cut(monkeypatch, capsys):
    def main(argv):
        raise UserError(f"tokenizer {'x' * 5000} is unknown: choose another")

    assert run(monkeypatch, main) == 1
    said = capsys.readouterr().err
    assert len(said) < 1000 and said.startswith("error: tokenizer xx") and said.endswith("choose another\n")


def test_help_of_a_program_run_by_path(tmp_path):
    """Under `python -m` absl registers flags by the program's name, not by the module's."""
    program = tmp_path / "tool.py"
    program.write_text(
        '"""Says a word.\n\n    tool.py --word=hello\n"""\n'
        "from absl import flags\nfrom ernie_vilg_jax import cli\n"
        "flags.DEFINE_string('word', 'panda', 'What to say.')\ndef main(argv): pass\ncli.run(main)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    done = subprocess.run([sys.executable, str(program), "--help"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "tool.py --word=hello" in done.stdout and "What to say." in done.stdout


def test_the_home_folder_may_be_written_as_a_tilde(monkeypatch, capsys):
    monkeypatch.setenv("HOME", "/home/cat")
    given = ["sample", "--output=~/x", "-output=~", "~/run", "--config.data.path=~/d a", "--config=~/c.py:base"]
    left = ["--prompt=~/art", "--negative_prompt=~", "--x=a~/b", "--x=~user/b", "~~", "--", "~/y"]
    home = ["--output=/home/cat/x", "-output=/home/cat", "/home/cat/run", "--config.data.path=/home/cat/d a"]
    assert command.at_home([*given, *left]) == ["sample", *home, "--config=/home/cat/c.py:base", *left]
    assert run(monkeypatch, say, "--word=~/run") == 0
    assert capsys.readouterr().out == "/home/cat/run\n"
