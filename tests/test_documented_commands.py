"""Every command of `train` in configs, README, docs and launch: each starts, on its intended devices.

`--dry_run --topology` checks them without devices, data or compiling.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from ernie_vilg_jax.config import flat
from tests.commands import run_all
from tests.launch.scripts import launch, readme_lines

ROOT = Path(__file__).parent.parent
GUIDES = [ROOT / "README.md", ROOT / "ernie_vilg_jax/train.py", *sorted((ROOT / "configs").glob("*.py"))]
GUIDES += [ROOT / "launch/README.md", *sorted((ROOT / "docs").glob("*.md"))]
# The intended hardware of a config or variant, from its docstring.
DEVICES = {
    "demo": ("cpu:1",),
    "ablation": ("v5p:2x2x1",),
    "small_100m": ("v5e:2x4", "gpu:1"),
    "medium_300m": ("v5e:2x4", "gpu:1"),
    "v5p_256": ("v5p:4x4x8",),
    "v5p_128": ("v5p:4x4x4", "4*v5p:4x4x4"),
    "v6e_256": ("v6e:16x16",),
}
CHIPS = {"v5litepod": ("v5e", 1), "v6e": ("v6e", 1), "v5p": ("v5p", 2)}
"""Prefix of an accelerator type -> chip, and how many units of its number a chip has."""


def lines_of(text: str) -> Iterator[list[str]]:
    """The commands of `train` in a text, without its name; variables of the shell filled in."""
    text = re.sub(r"\\\\?\n\s*", " ", text)
    variables = dict(re.findall(r'^(\w+)="([^"]*)"$', text, re.M))
    for line in re.findall(r"^\s*python -m ernie_vilg_jax\.train (.*)$", text, re.M):
        line = re.sub(r"\$(\w+)", lambda found: variables[found[1]], line)
        if not re.search(r"…|\.\.\.", line):  # half a line
            yield shlex.split(line, comments=True)


def documented() -> dict[tuple[str, ...], None]:
    """Command lines, each once, with the devices that it is for."""
    found: dict[tuple[str, ...], None] = {}
    for guide in GUIDES:
        for words in lines_of(guide.read_text(encoding="utf-8")):
            config = next(word.partition("=")[2] for word in words if word.startswith("--config="))
            if any(word.startswith("--topology=") for word in words):
                found[(*words,)] = None
                continue
            name, *variants = re.split("[:,]", config)
            known = [DEVICES[word] for word in (*variants, Path(name).stem) if word in DEVICES]
            assert known, f"{guide} has a command for devices that are not known here: {words}"
            for topology in known[0]:
                found[(*words, "--dry_run", f"--topology={topology}")] = None
    # Hardware that docstrings name in words.
    for phase in ("autoencoder", "base", "experts"):
        for config, devices in (("paper", "v6e_256"), ("paper", "v5p_128"), ("small_100m", "one_gpu")):
            for topology in DEVICES.get(devices, ("gpu:1",)):
                found[(f"--config={config}:{phase},{devices}", "--dry_run", f"--topology={topology}")] = None
    return found


def launched() -> dict[tuple[str, ...], None]:
    """What the launch scripts would start, in launch/README.md and by tests/launch, on what they would start it on."""
    found: dict[tuple[str, ...], None] = {}
    texts = [launch(Path(script).stem, *arguments, "--dry_run").stdout for script, *arguments in readme_lines()]
    texts += [golden.read_text(encoding="utf-8") for golden in sorted((ROOT / "tests/launch").glob("*.txt"))]
    for text in texts:
        command = re.search(r"^\+ .*-m ernie_vilg_jax\.train --config=configs.*$", text, re.M)
        if command is None:
            continue
        words = shlex.split(next(word for word in shlex.split(command[0]) if "ernie_vilg_jax.train" in word))
        kind, number = re.findall(r"--(?:accelerator|tpu)-type=(\w+)-(\d+)", text)[0]
        slices = (re.findall(r"--(?:node-count|num-slices)=(\d+)", text) or ["1"])[0]
        chip, counted = CHIPS[kind]
        arguments = words[words.index("ernie_vilg_jax.train") + 1 :]
        found[(*arguments, "--dry_run", f"--topology={slices}*{chip}:{int(number) // counted}")] = None
    return found


def test_there_are_commands_to_check() -> None:
    files = {words[0].partition("=")[2].partition(":")[0] for words in documented()}
    assert {"configs/paper.py", "configs/demo.py", "configs/small_100m.py", "configs/ablation.py"} <= files
    assert len(launched()) >= 5


SMALLER = ("--config.model.unet.channel_multipliers=(1,)", "--config.model.unet.num_res_blocks=1")


def of_each_kind() -> Iterator[tuple[str, ...]]:
    """Those commands that have a config, phase, variant, chip or number of slices that none before them has.

    The first of each config is as documented; the others have fewer blocks, which are traced in less time.
    """
    seen: set[str] = set()
    for line in {**documented(), **launched()}:
        flags = {name: value for name, _, value in (word.partition("=") for word in line)}
        config, *variants = re.split("[:,]", Path(flags["--config"]).name.replace(".py", ""))
        slices, _, topology = flags["--topology"].rpartition("*")
        kind = {config, *variants, topology.partition(":")[0], *({"slices"} if int(slices or 1) > 1 else ())}
        if kind - seen:
            yield (*line, *SMALLER) if config in seen else line
        seen |= kind


def test_every_field_of_a_documented_command_exists() -> None:
    for line in {**documented(), **launched()}:
        name, _, variants = line[0].removeprefix("--config=").partition(":")
        config = import_module(f"configs.{Path(name).stem}").get_config(variants)
        for word in line[1:]:
            if word.startswith("--config."):
                path = word.partition("=")[0].removeprefix("--config.")
                assert path in flat(config), line


@pytest.mark.slow
@pytest.mark.parametrize(
    "commands",
    [
        pytest.param(of_each_kind, marks=pytest.mark.documents),
        *(pytest.param(commands, marks=pytest.mark.hosts) for commands in (documented, launched)),
    ],
)
def test_every_documented_command_would_start(
    commands: Callable[[], Iterable[tuple[str, ...]]], tmp_path: Path
) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")  # a folder without runs and data
    lines = list(commands())
    results = run_all([["train", *line] for line in lines], cwd=tmp_path)
    failed = {" ".join(line): result.stderr for line, result in zip(lines, results, strict=True) if result.status}
    assert not failed
    assert all("verdict: it would start" in result.stdout for result in results)
