"""Flags, help and errors of every command, without starting a process."""

import errno
import io
import logging
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
from absl import flags
from absl import logging as absl_logging
from absl.testing import flagsaver
from ml_collections import config_flags

from ernie_vilg_jax import cli
from ernie_vilg_jax.chips import ABSENT, without_tpu
from ernie_vilg_jax.errors import UserError

_WORD = flags.DEFINE_string("word", "panda", "A word to say.")
_CONFIG = config_flags.DEFINE_config_file("config", None, "The config to run.")

CONFIG = """
from ml_collections import ConfigDict
def get_config(arg=""):
    if arg == "broken":
        raise ValueError("no such variant")
    return ConfigDict(dict(seed=0, train=dict(steps=10, learning_rate=1e-3), sources=(ConfigDict(dict(count=4)),)))
"""


@pytest.fixture(autouse=True)
def restored_flags():
    handler = absl_logging.get_absl_handler()
    verbosity = absl_logging.get_verbosity()
    before = warnings.formatwarning, threading.excepthook, sys.unraisablehook
    # Again, because a command imported by another test may also have a flag of this name.
    config_flags.DEFINE_config_file("config", None, "The config to run.")
    with flagsaver.flagsaver(), warnings.catch_warnings():
        yield
    warnings.formatwarning, threading.excepthook, sys.unraisablehook = before
    absl_logging.set_verbosity(verbosity)
    handler.setFormatter(None)
    for filter_ in list(handler.filters):
        handler.removeFilter(filter_)


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/demo.py").write_text(CONFIG)
    return "configs/demo.py"


def run(monkeypatch: pytest.MonkeyPatch, main, *arguments: str, positional: bool = False) -> int:
    """The exit status of a command. ml_collections reads sys.argv itself, so that is where arguments go."""
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.run(main, positional=positional)
    return stopped.value.code or 0  # type: ignore[return-value]


def say(argv: list[str]) -> None:
    print(_WORD.value, *argv[1:])


def train(argv: list[str]) -> None:
    print(_CONFIG.value.train.steps)


def test_main_runs_with_flags(monkeypatch, capsys):
    assert run(monkeypatch, say, "--word=熊猫") == 0
    assert capsys.readouterr().out == "熊猫\n"


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
    assert out.startswith("Flags, help and errors of every command")
    assert "--word" in out and "A word to say. (default: 'panda')" in out
    assert "--config.seed=1" in out
    assert "run_with_pdb" not in out, "flags of libraries belong to --helpfull"


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


def test_required_flags_are_named(monkeypatch, capsys):
    values = flags.FlagValues()
    for name in ("input", "output"):
        flags.DEFINE_string(name, None, "", flag_values=values)
        flags.mark_flag_as_required(name, flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    with pytest.raises(SystemExit) as stopped:
        cli._parse(say, False, ["command"])
    assert stopped.value.code == 1
    assert capsys.readouterr().err.startswith("error: --input")


def test_config_overrides_reach_the_config(monkeypatch, capsys, config_file):
    overrides = ("--config.train.steps=7", "--config.sources[0].count=2")
    assert run(monkeypatch, train, f"--config={config_file}", *overrides) == 0
    assert capsys.readouterr().out == "7\n"


def test_positional_arguments_if_the_command_takes_them(monkeypatch, capsys):
    assert run(monkeypatch, say, "inspect", positional=True) == 0
    assert capsys.readouterr().out == "panda inspect\n"


def test_an_endless_message_is_cut(monkeypatch, capsys):
    def main(argv):
        raise UserError(f"tokenizer {'x' * 5000} is unknown: choose another")

    assert run(monkeypatch, main) == 1
    said = capsys.readouterr().err
    assert len(said) < 1000 and said.startswith("error: tokenizer xx") and said.endswith("choose another\n")


THREADS = """
import sys, threading
from ernie_vilg_jax import cli
def late():
    raise RuntimeError("Event loop is closed")
def library():
    raise OSError("handle is closed")
def own():
    exec(compile("raise ValueError('ours')", cli.__file__, "exec"))
def main(argv):
    for target in (late, library, own):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
cli.run(main)
"""


def test_a_thread_of_a_library_that_fails_is_one_line():
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True)
    assert done.returncode == 0
    first, second, *rest = done.stderr.splitlines()
    assert first == "warning: handle is closed (in a thread of a library)"
    assert second == "Traceback (most recent call last):" and rest[-1] == "ValueError: ours", (
        "a bug keeps its traceback"
    )


FALLS = """
import sys
from ernie_vilg_jax import cli
from ernie_vilg_jax.errors import UserError

class Handle:
    def __del__(self): raise OSError("handle is closed")

def main(argv):
    handle = Handle()
    del handle
    if "fail" in argv:
        raise UserError("the cause")

def late(*_):
    handle = Handle()
    del handle

import atexit
atexit.register(late)
cli.run(main, ["p", *sys.argv[1:]], positional=True)
"""


def test_errors_at_exit_are_one_line_and_none_after_an_error():
    """Python prints what nothing can catch, such as an error in __del__, with a traceback."""
    for arguments, told in (
        ([], ["warning: handle is closed (in a thread of a library)"] * 2),
        (["fail"], ["warning: handle is closed (in a thread of a library)", "error: the cause"]),
    ):
        done = subprocess.run([sys.executable, "-c", FALLS, *arguments], capture_output=True, text=True)
        assert done.stderr.splitlines() == told


def test_logs_are_short_and_libraries_are_silent_below_warning(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(absl_logging.get_absl_handler().python_handler, "stream", log)

    def main(argv):
        handler = absl_logging.get_absl_handler()
        own = str(Path(cli.__file__).parent / "train.py")
        for path, level in ((own, logging.INFO), ("/lib/orbax.py", logging.INFO), ("/lib/orbax.py", logging.WARNING)):
            handler.handle(logging.LogRecord("absl", level, path, 1, f"from {Path(path).stem}", (), None))
        try:
            raise ValueError("lost")
        except ValueError:
            handled = "Failed to get metadata due to incompatible handler: <object at 0x7f>"
            handler.handle(logging.LogRecord("absl", logging.WARNING, "/lib/orbax/layout.py", 1, handled, (), None))
            for path in (own, "/lib/other.py", "/lib/orbax/future.py", "/lib/asyncio"):  # Orbax raises what it logs
                text = f"from {Path(path).stem}\nTraceback"
                name = Path(path).stem if path.endswith("asyncio") else "absl"
                handler.handle(logging.LogRecord(name, logging.ERROR, path, 1, text, (), sys.exc_info()))

    assert run(monkeypatch, main) == 0
    lines = [line[9:] if line[2:3] == ":" else line for line in log.getvalue().splitlines()]
    assert lines[:4] == ["from train", "warning: from orbax", "error: from train", "Traceback"]
    assert lines[-2:] == ["ValueError: lost", "error: from other"]


@pytest.mark.parametrize(("before", "after"), [("2", "4"), ("0", "0"), (None, None)])
def test_the_runtime_is_silenced_unless_a_level_was_chosen(before: str | None, after: str | None, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    if before is not None:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", before)
    cli.silence_runtime()
    assert os.environ.get("TF_CPP_MIN_LOG_LEVEL") == after


SAY_DEVICES = """
import sys
from ernie_vilg_jax import cli
def main(argv):
    import jax
    print(jax.devices()[0].platform)
cli.run(main, ["command"])
"""


def test_an_installed_libtpu_without_a_tpu_prints_nothing():
    pytest.importorskip("libtpu")
    environment = {name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    environment = {name: value for name, value in environment.items() if name not in ABSENT}
    done = subprocess.run(
        [sys.executable, "-c", SAY_DEVICES], env=environment, text=True, capture_output=True, check=True
    )
    if done.stdout != "tpu\n":
        assert not done.stderr


@pytest.mark.parametrize("device", ["accel0", "vfio/0", None])
def test_variables_of_a_tpu_are_left_alone(device: str | None, monkeypatch, tmp_path):
    for name in ABSENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "mine")
    (tmp_path / "vfio").mkdir()
    (tmp_path / "vfio/vfio").touch()  # of any machine with the driver
    if device:
        (tmp_path / device).touch()
    without_tpu(tmp_path)
    found = {name: os.environ.get(name) for name in ABSENT}
    expected = dict.fromkeys(ABSENT) if device else dict(ABSENT)
    assert found == {**expected, "TPU_WORKER_HOSTNAMES": "mine"}


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


def test_help_of_a_program_run_by_path(tmp_path):
    """Under `python -m` absl registers flags by the program's name, not by the module's."""
    program = tmp_path / "tool.py"
    program.write_text(
        '"""Says a word.\n\n    tool.py --word=hello\n"""\n'
        "from absl import flags\nfrom ernie_vilg_jax import cli\n"
        "flags.DEFINE_string('word', 'panda', 'What to say.')\ndef main(argv): pass\ncli.run(main)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent.parent)}
    done = subprocess.run([sys.executable, str(program), "--help"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "tool.py --word=hello" in done.stdout and "What to say." in done.stdout


def test_the_home_folder_may_be_written_as_a_tilde(monkeypatch, capsys):
    monkeypatch.setenv("HOME", "/home/cat")
    given = ["sample", "--output=~/x", "-output=~", "~/run", "--config.data.path=~/d a", "--config=~/c.py:base"]
    left = ["--prompt=~/art", "--negative_prompt=~", "--x=a~/b", "--x=~user/b", "~~", "--", "~/y"]
    home = ["--output=/home/cat/x", "-output=/home/cat", "/home/cat/run", "--config.data.path=/home/cat/d a"]
    assert cli.at_home([*given, *left]) == ["sample", *home, "--config=/home/cat/c.py:base", *left]
    assert run(monkeypatch, say, "--word=~/run") == 0
    assert capsys.readouterr().out == "/home/cat/run\n"


def test_old_names_are_read_with_one_note(monkeypatch, capsys, tmp_path):
    """--config=demo:stage2 and --config.stage2.x, of version 0.1, from any folder."""
    monkeypatch.chdir(tmp_path)

    def show(argv):
        config = _CONFIG.value
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
    assert run(monkeypatch, lambda argv: print(_CONFIG.value.name), f"--config={name}:base") == 0
    assert capsys.readouterr() == (f"{name}\n", "")
