"""What readers are told to type: the fenced blocks of all documents, and the shell commands in them."""

import ast
import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
READMES = ("launch", "benchmarks", "ernie_vilg_jax/assets/fonts")
LANGUAGES = ("bash", "console", "python", "text")
"""`console` has commands after `$ ` and their output; `text` is nothing to type."""

PIECES = re.compile(
    r"(?P<quoted>'[^']*'|\"(?:\\.|[^\"\\])*\")|(?P<joined>\\\n)|(?P<comment>(?<!\S)#[^\n]*)|(?P<end>&&|;|\n)|(?P<here><<)"
    r"|(?P<other>\\.|.)",
    re.S,
)
"""Of a text for the shell."""


class Block(NamedTuple):
    page: str  # docs/api.md
    line: int  # of its first line, from 1
    language: str  # one of LANGUAGES, else what is wrong with it
    text: str

    @property
    def name(self) -> str:
        """The page and the first line of code: what tables know a block of Python by."""
        code = (line for line in self.text.splitlines() if line.strip())
        return f"{self.page}: {next(code, '')}"


class Command(NamedTuple):
    page: str
    line: int
    before: tuple[str, ...]  # assignments of its block that it may use: SIZE="..."
    text: str  # one line, as typed, without the comment

    @property
    def name(self) -> str:
        """The page and the command, with single spaces: what tables know it by."""
        return f"{self.page}: {' '.join(self.text.split())}"

    @property
    def shell(self) -> str:
        return "\n".join((*self.before, self.text))


def pages() -> list[Path]:
    """Markdown files, and notebooks, whose Markdown counts."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("colab/*.ipynb")]
    return sorted([*found, *(ROOT / name / "README.md" for name in READMES)])


def markdown(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def blocks_of(text: str, page: str) -> Iterator[Block]:
    for token in MarkdownIt("commonmark").parse(text):
        if token.type in ("fence", "code_block"):
            start = token.map[0] if token.map else 0
            fenced = token.type == "fence"
            yield Block(page, start + 1 + fenced, token.info if fenced else "indented", token.content)


@cache
def blocks() -> tuple[Block, ...]:
    """Those of all pages, in order."""
    return tuple(
        block for page in pages() for block in blocks_of(markdown(page), page.relative_to(ROOT).as_posix())
    )  # fmt: skip


def parts(text: str) -> Iterator[tuple[int, str]]:
    """(line, command) of each command in a text for the shell, without comments; split at `&&`, joined at `\\`."""
    command, start = "", 0
    for piece in PIECES.finditer(text + "\n"):
        match piece.lastgroup:
            case "here":
                raise AssertionError("here-documents are not read: write a file and name it")
            case "joined":
                command += " "
            case "end":
                if command.strip():
                    yield text.count("\n", 0, start), command.strip()
                command = ""
            case "comment":
                pass
            case _:
                start = start if command.strip() else piece.start()
                command += piece[0]


def commands_of(block: Block) -> Iterator[Command]:
    """The commands of a block for the shell; assignments are no commands, but belong to those below them."""
    text = block.text
    if block.language == "console":  # the output is blanked, so that lines keep their numbers
        text = re.sub(r"^(?!\$ |  ).*$", "", text, flags=re.M)
        text = re.sub(r"^\$ ", "", text, flags=re.M)
    before: list[str] = []
    for line, command in parts(text):
        if re.fullmatch(r"\w+=(\"[^\"]*\"|'[^']*'|\S*)", command):
            before.append(command)
        else:
            yield Command(block.page, block.line + line, tuple(before), command)


@cache
def commands() -> tuple[Command, ...]:
    """Those of all pages, in order."""
    return tuple(one for block in blocks() if block.language in ("bash", "console") for one in commands_of(block))


@cache
def docstrings() -> tuple[Command, ...]:
    """Commands of this package in the docstrings of its modules and configs: indented lines."""
    found = []
    for path in sorted([*ROOT.glob("ernie_vilg_jax/*.py"), *ROOT.glob("configs/*.py")]):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines = re.findall(r"^ *python -m (?:.*\\\n)*.*$", text, re.M)
        page = path.relative_to(ROOT).as_posix()
        found += [one for line in lines for one in commands_of(Block(page, 0, "bash", line))]
    return tuple(found)


def words(commands: Iterable[Command]) -> list[list[str]]:
    """The words of each command as the shell makes them, variables filled in, nothing run, no pattern expanded."""
    lines = "".join(
        f"(\n{''.join(f'{b}{chr(10)}' for b in c.before)}printf '%s\\0' {c.text}\n); printf '\\1\\0'\n"
        for c in commands
    )
    done = subprocess.run(["bash", "-f"], input="".join(lines), capture_output=True, text=True, check=True)
    assert not done.stderr, done.stderr
    return [one.split("\0")[:-1] for one in done.stdout.split("\1\0")[:-1]]
