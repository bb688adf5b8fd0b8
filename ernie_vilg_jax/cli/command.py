"""A command from its arguments to its exit status."""

import gc
import inspect
import os
import re
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections.config_flags import config_flags

from ernie_vilg_jax.chips import without_tpu
from ernie_vilg_jax.cli.configs import check_configs, todays_names
from ernie_vilg_jax.cli.environment import QUIET_ENVIRONMENT
from ernie_vilg_jax.cli.logs import quiet_logging
from ernie_vilg_jax.errors import UserError, file_error

Main = Callable[[list[str]], Any]

HELP_FLAGS = ("--help", "-help", "-h", "--helpshort", "-?")


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
    gc.set_threshold(10_000)  # at Python's 700 it takes a quarter of the time in which jax traces a program
    arguments = list(sys.argv if argv is None else argv)
    app.run(partial(_guard, main), argv=arguments, flags_parser=partial(_parse, main, positional))


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
    quiet_logging()
    return rest


def _flag_sentence(error: flags.Error) -> str:
    message = str(error).strip()
    if "Error whilst parsing config file" in message:  # ml_collections puts the whole traceback into the message
        return f"{message.split(': Error whilst')[0]}: the config file failed with {message.splitlines()[-1]}"
    if missing := re.findall(r"Flag --(\w+) must have a value other than None", message):
        return f"{' and '.join(f'--{name}' for name in missing)} must be given; --help shows how."
    return f"{message.rstrip('.')}; --help lists the flags."


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


def at_home(argv: Sequence[str]) -> list[str]:
    """`argv` with ~ expanded, which shells do not do after --flag=; in prompts it stays."""
    end = argv.index("--") if "--" in argv else len(argv)
    pattern = re.compile(r"(--?(?!prompt|negative_prompt)[\w.]+=)?~(/.*)?", re.S)
    found = [pattern.fullmatch(argument) for argument in argv[:end]]
    home = str(Path.home())
    return [f"{m[1] or ''}{home}{m[2] or ''}" if m else a for m, a in zip(found, argv, strict=False)] + list(argv[end:])
