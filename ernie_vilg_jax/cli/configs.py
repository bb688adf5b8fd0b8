"""--config and --config.x.y: names of the package's configs, names of version 0.1, and one sentence for mistakes."""

import ast
import difflib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections.config_flags import config_flags

from ernie_vilg_jax.config import OLD_PHASES, flat, upgraded_override
from ernie_vilg_jax.errors import UserError


def config_folder() -> Path:
    """The folder of the package's configs: in the package if installed, or at the top of a clone."""
    installed = Path(__file__).parents[1] / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "configs"


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
