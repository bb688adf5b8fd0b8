"""Code shared by all commands: flags, one-sentence errors, quiet logs, `--help` with examples.

A command module looks like this, and flags are defined in command modules only:

    \"\"\"What the command does, with examples; this text is what --help shows first.\"\"\"

    def main(argv: list[str]) -> None: ...

    def run() -> None:
        cli.run(main)

    if __name__ == "__main__":
        run()

Exit status: 0 success, 1 an error that users can fix (one sentence on stderr), 130 interrupted. Anything else is a bug,
and keeps its traceback. A full disk, a read-only folder and the like (`errors.file_error`) are errors that users can
fix, wherever they occur.
"""

import ast
import difflib
import inspect
import logging
import os
import re
import sys
import textwrap
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from absl import app, flags
from absl import logging as absl_logging
from ml_collections.config_flags import config_flags

from ernie_vilg_jax.chips import without_tpu
from ernie_vilg_jax.config import OLD_PHASES, flat, upgraded_override
from ernie_vilg_jax.errors import UserError, file_error

Main = Callable[[list[str]], Any]

HELP_FLAGS = ("--help", "-help", "-h", "--helpshort", "-?")
# Set before the libraries are imported, and only if the user has not set them.
QUIET_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",  # XLA's C++ log: errors only
    "TRANSFORMERS_VERBOSITY": "error",  # no "PyTorch was not found": tokenizers need none
    "TOKENIZERS_PARALLELISM": "false",  # else it warns in every forked data worker
}


def run(main: Main, argv: Sequence[str] | None = None, positional: bool = False) -> None:
    """Parses flags, calls `main(argv)` with the remaining arguments, and exits the process. Never returns.

    Args:
        main: the command; its module's docstring and flags make the --help text.
        argv: program name and arguments; sys.argv by default.
        positional: whether the command takes arguments that are not flags. If not, they are an error.
    """
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    without_tpu()
    arguments = list(sys.argv if argv is None else argv)
    app.run(partial(_guard, main), argv=arguments, flags_parser=partial(_parse, main, positional))


def silence_runtime() -> None:
    """Turns XLA's C++ log off, unless the user chose another level. Call it before jax is imported.

    For one of several processes: if another one is lost, C++ would print a stack, while `sharding.watch` logs a
    sentence.
    """
    name = "TF_CPP_MIN_LOG_LEVEL"
    if os.environ.get(name) == QUIET_ENVIRONMENT[name]:
        os.environ[name] = "4"


def enable_compilation_cache() -> str | None:
    """Keeps compiled programs on disk, so that the second start of a command need not compile again.

    The folder is JAX_COMPILATION_CACHE_DIR, or ~/.cache/ernie_vilg_jax/xla by default. Returns the folder, or None if
    it cannot be written.
    """
    import jax

    if chosen := jax.config.values["jax_compilation_cache_dir"]:
        return chosen
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ernie_vilg_jax" / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        absl_logging.warning("No compilation cache: %s cannot be written (%s).", folder, error)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return str(folder)


def _guard(main: Main, argv: list[str]) -> int:
    try:
        main(argv)
        _flush()
    except UserError as error:
        return _complain(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if (told := file_error(error)) is None:
            raise
        return _complain(told)
    return 0


def _flush() -> None:
    """Flushes stdout; Python itself would do so too late to report a full disk in one sentence."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python would try, and fail, again
        raise


def _complain(error: Exception | str) -> int:
    text = " ".join(str(error).split())
    if len(text) > 1000:  # a damaged file may contain names of any length
        text = f"{text[:700]} ... {text[-250:]}"
    threading.excepthook = sys.unraisablehook = lambda _: None  # errors that follow from it are not shown
    print(f"error: {text}", file=sys.stderr)
    return 1


def _parse(main: Main, positional: bool, argv: list[str]) -> list[str]:
    """absl's flag parsing, with our help and one sentence for every error. Exits after either."""
    before_dashes = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
    if any(argument in HELP_FLAGS for argument in before_dashes):
        print(help_text(main, argv[0]))
        sys.exit(0)
    try:
        argv = todays_names(at_home(argv), flags.FLAGS)
        sys.argv[:] = argv  # ml_collections always reads --config.x.y from there
        check_configs(argv, flags.FLAGS)
        rest = flags.FLAGS(argv)
        if len(rest) > 1 and not positional:
            raise UserError(f"Unexpected argument {rest[1]!r}: write --flag=value; --help lists the flags.")
    except UserError as error:
        sys.exit(_complain(error))
    except flags.Error as error:
        sys.exit(_complain(_flag_sentence(error)))
    _quiet_logging()
    return rest


def _flag_sentence(error: flags.Error) -> str:
    message = str(error).strip()
    if "Error whilst parsing config file" in message:  # ml_collections puts the whole traceback into the message
        return f"{message.split(': Error whilst')[0]}: the config file failed with {message.splitlines()[-1]}"
    if missing := re.findall(r"Flag --(\w+) must have a value other than None", message):
        return f"{' and '.join(f'--{name}' for name in missing)} must be given; --help shows how."
    return f"{message.rstrip('.')}; --help lists the flags."


def _ours(record: logging.LogRecord) -> bool:
    return record.pathname.startswith(str(Path(__file__).parent))


class _QuietFilter(logging.Filter):
    """INFO from this package, WARNING and worse from everyone; without the errors that Orbax both logs and raises."""

    def filter(self, record: logging.LogRecord) -> bool:
        orbax = "/orbax/" in record.pathname
        raised = record.exc_info and (orbax or record.name == "asyncio")
        raised = raised or (orbax and "incompatible handler" in record.getMessage())  # before a damaged file's error
        return _ours(record) or (record.levelno >= logging.WARNING and not raised)


class _QuietFormatter(logging.Formatter):
    """12:34:56 message; only the first line of a library's, without a traceback: --verbosity=0 shows the rest."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        text = record.getMessage()
        if not _ours(record):
            text = (text.strip().splitlines() or [""])[0]
        elif record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        return f"{self.formatTime(record, '%H:%M:%S')} {level}{text}"


def _quiet_logging() -> None:
    """One short line per message, and no library logs; --verbosity restores absl's full log."""
    if flags.FLAGS["verbosity"].present:
        return
    absl_logging.use_absl_handler()
    absl_logging.set_verbosity(absl_logging.INFO)
    handler = absl_logging.get_absl_handler()
    if not any(isinstance(f, _QuietFilter) for f in handler.filters):
        handler.addFilter(_QuietFilter())
    handler.setFormatter(_QuietFormatter())
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)  # from Orbax, after it raised
    threading.excepthook = _outside_main
    sys.unraisablehook = _outside_main


def _outside_main(failed: Any) -> None:
    """An error that nothing can catch, in a thread or at exit: one line if it is a library's, all of it if it is ours.

    If the failure of a library's thread matters, it also stops the command when a save is waited for or a file is
    closed. After that, dozens of Orbax's threads fail because its event loop is closed, which is not reported.
    """
    frames = traceback.extract_tb(failed.exc_traceback)
    if any(frame.filename.startswith(str(Path(__file__).parent)) for frame in frames):
        traceback.print_exception(failed.exc_type, failed.exc_value, failed.exc_traceback)
    elif not isinstance(failed.exc_value, BrokenPipeError) and str(failed.exc_value) != "Event loop is closed":
        reason = " ".join(str(failed.exc_value).split()) or failed.exc_type.__name__
        print(f"warning: {reason} (in a thread of a library)", file=sys.stderr)


def help_text(main: Main, program: str) -> str:
    """The docstring of the command's module, then its flags with defaults."""
    module = inspect.getmodule(main)
    doc = inspect.cleandoc((module and module.__doc__) or "")
    # If a module is run as a program, absl registers its flags under the program's name.
    names = {main.__module__, program} if main.__module__ == "__main__" else {main.__module__}
    own = {flag.name: flag for name in names for flag in flags.FLAGS.get_key_flags_for_module(name)}
    lines = [doc, "", "Flags:"]
    for name, flag in sorted(own.items()):
        prefix = "[no]" if flag.boolean else ""
        default = "" if flag.default in (None, "") else f" (default: {flag.default_as_str})"
        lines.append(f"  --{prefix}{name}")
        lines += textwrap.wrap(
            f"{flag.help}{default}", 110, initial_indent=" " * 6, subsequent_indent=" " * 6, break_long_words=False
        )
    if any(isinstance(flag.parser, config_flags.ConfigFileFlagParser) for flag in own.values()):
        lines += ["", "Any value of the config can be overridden: --config.seed=1"]
    return "\n".join([*lines, "", "--helpfull also lists the flags of the libraries."])


def config_folder() -> Path:
    """The folder of the package's configs: beside this module if installed, or at the top of a clone."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "configs"


def at_home(argv: Sequence[str]) -> list[str]:
    """`argv` with ~ expanded, which shells do not do after --flag=; in prompts it stays."""
    end = argv.index("--") if "--" in argv else len(argv)
    pattern = re.compile(r"(--?(?!prompt|negative_prompt)[\w.]+=)?~(/.*)?", re.S)
    found = [pattern.fullmatch(argument) for argument in argv[:end]]
    home = str(Path.home())
    return [f"{m[1] or ''}{home}{m[2] or ''}" if m else a for m, a in zip(found, argv, strict=False)] + list(argv[end:])


def todays_names(argv: Sequence[str], flag_values: flags.FlagValues) -> list[str]:
    """`argv` with names of the package's configs replaced by their files, and names of version 0.1 by current ones.

    --config=demo:stage1 --config.stage1.steps=5 -> --config=<configs>/demo.py:base --config.phases.base.steps=5, with
    one note on stderr about the old names.
    """
    names = [n for n in flag_values if isinstance(flag_values[n].parser, config_flags.ConfigFileFlagParser)]
    if not names:
        return list(argv)
    pattern = re.compile(
        rf"(?P<flag>--?(?:no)?(?P<name>{'|'.join(names)}))(?:(?P<dot>\.)(?P<path>[^=]+))?(?P<value>=.*)?", re.S
    )
    result, notes = list(argv), []
    for i, argument in enumerate(argv[1:], 1):
        if argument == "--":
            break
        if not (found := pattern.fullmatch(argument)):
            continue
        if found["dot"]:
            path = upgraded_override(found["path"])
            if path != found["path"]:
                notes.append(f"--{found['name']}.{path}")
            result[i] = f"{found['flag']}.{path}{found['value'] or ''}"
        elif found["value"]:
            result[i] = f"{found['flag']}={_todays_config(found['value'][1:], notes)}"
        elif i + 1 < len(argv):
            result[i + 1] = _todays_config(argv[i + 1], notes)
    if notes:
        print(f"note: the phases stage1 and stage2 are called base and experts now: {' '.join(notes)}", file=sys.stderr)
    return result


def _todays_config(value: str, notes: list[str]) -> str:
    name, colon, argument = value.partition(":")
    words = [OLD_PHASES.get(word, word) for word in argument.split(",")]
    if words != argument.split(","):
        notes.append(f"--config={name}:{','.join(words)}")
    known = config_folder() / f"{name}.py"
    if re.fullmatch(r"\w+", name) and not Path(name).exists() and known.is_file():
        name = str(known)
    return f"{name}{colon}{','.join(words)}"


def check_configs(argv: Sequence[str], flag_values: flags.FlagValues) -> None:
    """Raises a UserError if --config is not a config file, or --config.x.y is not a value of it.

    ml_collections reports the first only when the config is used, and the second as a bare KeyError.
    """
    for name in flag_values:
        parser = flag_values[name].parser
        if not isinstance(parser, config_flags.ConfigFileFlagParser):
            continue
        value, overrides = _config_arguments(argv, name)
        value = flag_values[name].default if value is None else value
        if value is None:
            if overrides:
                raise UserError(f"--{name}.{overrides[0]} overrides a value of a config, but no --{name} is given.")
            continue
        file = Path(str(value).split(":", 1)[0])
        if not file.is_file():
            known = sorted(str(path) for path in Path("configs").glob("*.py") if path.stem != "__init__")
            known += sorted(path.stem for path in config_folder().glob("*.py") if path.stem != "__init__")
            near = difflib.get_close_matches(str(file), known, n=1)
            hint = f"did you mean {near[0]}" if near else f"configs here: {', '.join(known)}" if known else ""
            raise UserError(f"--{name}={value}: there is no file {file}{'; ' + hint if hint else ''}.")
        if file.suffix != ".py":
            raise UserError(f"--{name}={value}: a config is a Python file with a function get_config().")
        if overrides:
            _check_overrides(name, str(value), overrides)


def _config_arguments(argv: Sequence[str], name: str) -> tuple[str | None, list[str]]:
    """The value of --name and the paths of the --name.x.y in argv."""
    value, overrides = None, []
    for i, argument in enumerate(argv[1:], 1):
        if argument == "--":
            break
        if found := re.fullmatch(rf"--?{name}(?:=(.*))?", argument, re.DOTALL):
            value = found[1] if found[1] is not None else argv[i + 1] if i + 1 < len(argv) else None
        elif found := re.match(rf"--?(?:no)?{name}\.([^=]+)", argument):
            overrides.append(found[1])
    return value, overrides


def _check_overrides(name: str, value: str, overrides: Sequence[str]) -> None:
    try:
        config = config_flags.ConfigFileFlagParser(name).parse(value)
    except (TypeError, ValueError) as error:  # ml_collections puts the whole traceback into the message
        raise UserError(f"--{name}={value}: the config file failed with {str(error).splitlines()[-1]}.") from error
    for path in overrides:
        if _has(config, path):
            continue
        known = list(flat(config))
        leaf = path.rsplit(".", 1)[-1]
        near = [k for k in known if k.rsplit(".", 1)[-1] == leaf] or difflib.get_close_matches(path, known, n=1)
        hint = f"did you mean --{name}.{near[0]}?" if near else f"it has {', '.join(known)}."
        raise UserError(f"--{name}.{path}: {value} has no such value; {hint}")


def _has(config: Any, path: str) -> bool:
    """Whether a dotted path, possibly with [i] in it, leads to a value."""
    for part in re.findall(r"[^.\[\]]+|\[[^\]]*\]", path):
        try:
            config = config[ast.literal_eval(part[1:-1]) if part[0] == "[" else part]
        except (KeyError, IndexError, TypeError, ValueError, SyntaxError, AttributeError):
            return False
    return True
