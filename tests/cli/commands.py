"""Two commands, and how tests run them in this process."""

import sys

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from ernie_vilg_jax import cli

_WORD = flags.DEFINE_string("word", "panda", "A word to say.")


def define_config() -> flags.FlagHolder[ConfigDict]:
    return config_flags.DEFINE_config_file("config", None, "The config to run.")


_CONFIG = define_config()

CONFIG = """
from ml_collections import ConfigDict
def get_config(arg=""):
    if arg == "broken":
        raise ValueError("no such variant")
    return ConfigDict(dict(seed=0, train=dict(steps=10, learning_rate=1e-3), sources=(ConfigDict(dict(count=4)),)))
"""


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


def given_config() -> ConfigDict:
    return _CONFIG.value
