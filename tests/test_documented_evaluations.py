"""Every documented command of `COMMANDS` has flags, metrics and scorers that exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from ernie_vilg_jax.evaluation import metrics, prompt_sets, scorers
from tests.commands import run_all

ROOT = Path(__file__).parents[1]
COMMANDS = ("evaluate", "finetune", "sample", "human_study")
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDES += [ROOT / f"ernie_vilg_jax/{name}.py" for name in COMMANDS]


def lines() -> Iterator[tuple[str, str, dict[str, str]]]:
    """(guide, command, its flags) of each line."""
    for guide in GUIDES:
        text = re.sub(r"\\\\?\n\s*", " ", guide.read_text(encoding="utf-8"))
        for name, rest in re.findall(rf"^\s*python -m ernie_vilg_jax\.({'|'.join(COMMANDS)}) (.*)$", text, re.M):
            words = [word for word in shlex.split(rest, comments=True) if word.startswith("--")]
            yield guide.name, name, {word[2:].partition("=")[0]: word.partition("=")[2] for word in words}


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """The flags of each command, as its help names them."""
    helps = run_all([[name, "--help"] for name in COMMANDS])
    assert not any(result.status for result in helps)
    return {
        name: set(re.findall(r"^  --(?:\[no\])?(\w+)$", result.stdout, re.M))
        for name, result in zip(COMMANDS, helps, strict=True)
    }


def test_documented_flags_exist(known: dict[str, set[str]]) -> None:
    found = list(lines())
    assert {name for _, name, _ in found} == set(COMMANDS)
    assert len([name for _, name, _ in found if name == "evaluate"]) >= 8
    wrong = [(guide, name, flag) for guide, name, given in found for flag in given if flag not in known[name]]
    assert not wrong


def test_documented_metrics_scorers_and_prompts_exist() -> None:
    for guide, name, given in lines():
        if name != "evaluate":
            continue
        chosen = metrics.chosen(given.get("metrics", "alignment").split(","))
        assert not any(metric.compares for metric in chosen.values()) or "reference" in given, guide
        paths = scorers.paths_of(given["weights"].split(",") if "weights" in given else [])
        needed = {network for metric in chosen.values() for network in metric.networks} - {"alignment", "efficientnet"}
        assert needed <= set(paths), guide
        assert given.get("rerank", "clip").partition("=")[0] in scorers.SCORERS
        assert given["prompts"] in prompt_sets.SETS or Path(given["prompts"]).suffix in (".csv", ".json", ".txt")
        assert ("checkpoint" in given) != ("images" in given)
