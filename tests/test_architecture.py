"""docs/architecture.md matches the code: every call in its two call trees exists."""

import ast
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CALLED_AS = {
    "ExampleMaker.arrays": "example",  # grain calls the maker
    "Pipeline.__call__": "ask",
    "Runner.__call__": "runner",
    "Generator.__call__": "_program",
    "Resident.__call__": "executor",
    "sample": "_batch",  # its jitted program
    "guided_prediction": "executor",  # which it was handed to
    "Model.encode_text": "_encode_text",  # jitted
    "Model.decode": "decode",
}
"""The name by which a function is called, if it is not its own."""


class Hop(NamedTuple):
    depth: int
    file: str
    function: str


def ways() -> list[list[Hop]]:
    section = PAGE.split("## Two ways through the code")[1].split("\n## ")[0]
    lines = [re.findall(r"^( *)(\S+\.py) +(\S+)", block, re.MULTILINE) for block in section.split("```")[1::2]]
    return [[Hop(len(indent) // 2, file, function) for indent, file, function in way] for way in lines]


def function(hop: Hop) -> ast.AST:
    tree: ast.AST = ast.parse((ROOT / "ernie_vilg_jax" / hop.file).read_text(encoding="utf-8"))
    for name in hop.function.split("."):
        tree = next(
            node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name
        )
    return tree


def caller(way: list[Hop], place: int) -> Hop:
    return next(hop for hop in reversed(way[:place]) if hop.depth == way[place].depth - 1)


def floor(hop: Hop) -> int:
    """0 is the top."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [re.split(r"[ |:]+", layer) for layer in contracts[0]["layers"]]
    module = hop.file.split("/")[0].removesuffix(".py")
    return next(number for number, layer in enumerate(layers) if module in layer)


@pytest.mark.parametrize("way", ways(), ids=["a training image", "a prompt"])
def test_a_way_is_in_the_code_and_short(way: list[Hop]) -> None:
    assert 8 <= len(way) <= 12
    for place, hop in enumerate(way[1:], 1):
        before = caller(way, place)
        assert floor(before) <= floor(hop), f"{hop.function} is a floor above {before.function}"
        name = CALLED_AS.get(hop.function, hop.function.rpartition(".")[2])
        assert function(hop)
        assert re.search(rf"\b{name}\b", ast.unparse(function(before))), f"{before.function} does not call {name}"


def test_every_file_of_the_map_is_there() -> None:
    named = set(re.findall(r"`((?:tests/)?[a-z_/]+\.py)`", PAGE))
    assert len(named) > 20
    missing = [name for name in named if not (ROOT / name).is_file() and not (ROOT / "ernie_vilg_jax" / name).is_file()]
    assert not missing
