"""Each command of the documents is run by a test or has a reason why not; in any case, what it names exists."""

import ast
import doctest
import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from ernie_vilg_jax.config import default_config, flat
from ernie_vilg_jax.evaluation import metrics, prompt_sets, scorers
from tests.documents import blocks
from tests.documents.blocks import LANGUAGES, ROOT, Block, Command
from tests.documents.tables import REASONS, RUN, row

PYTHON = [block for block in blocks.blocks() if block.language == "python"]
FOLDERS = ("configs/", "launch/", "benchmarks/", "docs/", "tests/", "colab/", "constraints.txt")
"""What begins so is a file of the repository."""


@cache
def typed() -> list[tuple[str, list[str]]]:
    """(where, words) of each command, also of docstrings."""
    commands = [*blocks.commands(), *blocks.docstrings()]
    return [(f"{c.page}:{c.line}", words) for c, words in zip(commands, blocks.words(commands), strict=True)]


def names() -> list[str]:
    return [one.name for one in (*blocks.commands(), *PYTHON)]


def test_every_block_says_what_it_is() -> None:
    wrong = [
        f"{block.page}:{block.line}: {block.language}" for block in blocks.blocks() if block.language not in LANGUAGES
    ]
    assert not wrong, f"begin these blocks with ``` and one of {LANGUAGES}"


def test_commands_name_no_place_of_the_machine_that_wrote_them() -> None:
    """But /tmp and /mnt, which readers have as well."""
    own = re.compile(r"(?:^|[\s=])/(?!(?:tmp|mnt)/)\w")
    assert [one.name for one in (*blocks.commands(), *blocks.docstrings()) if own.search(one.text)] == []


def test_every_command_is_run_or_has_a_reason() -> None:
    missing = [name for name in names() if row(name) is None]
    assert not missing, (
        "run these in tests/documents/test_pages.py by a line of RUN, or give a reason: tables.py has both"
    )


def test_a_new_command_is_in_no_table() -> None:
    assert row("docs/new.md: python -m ernie_vilg_jax.sample") is None


def test_no_row_of_the_tables_is_left_over() -> None:
    used = {row(name) for name in names()}
    assert [pattern for pattern in (*REASONS, *RUN) if pattern not in used] == []


def test_tests_that_the_tables_name_exist() -> None:
    for text in (*RUN.values(), *REASONS.values()):
        for path, _, test in (found.partition("::") for found in re.findall(r"tests/[\w/.:]+", text)):
            assert (ROOT / path).exists(), text
            assert f"def {test}(" in (ROOT / path).read_text() if test else True, text


def test_both_readmes_say_to_type_the_same() -> None:
    """Chinese and English: the same commands, code but for comments, figures and sections."""
    english, chinese = (
        (
            [one.text for one in blocks.commands() if one.page == page],
            [ast.unparse(ast.parse(block.text)) for block in PYTHON if block.page == page],
            [re.sub(r"[^#].*", "", line) for line in text.splitlines() if line.startswith("#")],
            re.findall(r"\]\(((?!README)[^)]+)\)", text),
        )
        for page in ("README.md", "README.zh.md")
        for text in [(ROOT / page).read_text(encoding="utf-8")]
    )
    assert english == chinese and len(english[0]) > 10
    assert "(README.zh.md)" in (ROOT / "README.md").read_text() and "(README.md)" in (ROOT / "README.zh.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_scores_of_the_demo_are_those_of_its_model_card(page: str) -> None:
    card = (ROOT / "docs/model_card.md").read_text(encoding="utf-8")
    scores = {}
    for kind in ("two shapes", "one thing"):
        (row,) = re.findall(rf"^\| {kind} \|.*$", card, re.M)
        scores[kind] = [round(100 * float(number)) for number in re.findall(r"\d\.\d+", row)[:3]]
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [int(number) for number in re.findall(r"(\d+)(?=%| to \d+%)", text)]
    assert found == [*scores["two shapes"], *scores["one thing"]]


@cache
def flags_of(module: str) -> set[str] | None:
    """Flags that a command or benchmark has; None of what is not ours."""
    if module.startswith("ernie_vilg_jax"):
        done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, cwd=ROOT)
        return set(re.findall(r"^  -(?:\w,-)?-(?:\[no\])?(\w+)", done.stdout, re.M))
    if not module.startswith("benchmarks"):
        return None
    path = ROOT / module.replace(".", "/")
    files = path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    return {flag for file in files for flag in re.findall(r"[\"'](?:--)?(\w+)[\"']", file.read_text())}


def test_modules_and_flags_exist() -> None:
    wrong = []
    for where, words in typed():
        ours = [i for i, word in enumerate(words) if re.fullmatch(r"(\S*/)?python3?", word)]
        if not ours or len(words) < ours[0] + 2:
            continue
        first, second, *_ = [*words[ours[0] + 1 :], ""]
        module = second if first == "-m" else first.removesuffix(".py").replace("/", ".")
        known = flags_of(module)
        if known is None:
            continue
        given = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
        given = {flag for flag in given if not flag.startswith("config.")}
        wrong += [
            (where, module, flag)
            for flag in sorted(given)
            if flag.removeprefix("no") not in known and flag not in known
        ]
        wrong += [] if known else [(where, module, "has no flags")]
    assert not wrong


def test_keys_of_configs_exist() -> None:
    found = 0
    for where, words in typed():
        named = next((word.partition("=")[2] for word in words if word.startswith("--config=")), "")
        name, _, variants = named.partition(":")
        if "..." in variants or "CONFIG" in name:
            continue
        known = flat(import_module(f"configs.{Path(name).stem}").get_config(variants) if name else default_config())
        for word in words:
            if word.startswith("--config."):
                key = word.partition("=")[0].removeprefix("--config.")
                assert key in known, f"{where}: {word}"
                found += 1
    assert found > 100


def test_files_exist() -> None:
    for where, words in typed():
        for word in words:
            value = word.partition("=")[2] if word.startswith("--") else word
            path = re.split(r"[:,]", value)[0]
            if path.startswith(FOLDERS) and not word.startswith(("--output=", "--report=", "--card=")):
                assert list(ROOT.glob(path)), f"{where}: there is no {path}"


def test_links_lead_to_files() -> None:
    for page in blocks.pages():
        text = re.sub(r"^ *```.*?^ *```$", "", blocks.markdown(page), flags=re.M | re.S)
        for target in re.findall(r"\]\((?!\w+:)([^)#]+)", text):
            assert (page.parent / target).exists(), f"{page}: there is no {target}"


def test_metrics_scorers_and_prompts_of_evaluations_exist() -> None:
    found = 0
    for where, words in typed():
        if words[1:3] != ["-m", "ernie_vilg_jax.evaluate"]:
            continue
        found += 1
        given = {word[2:].partition("=")[0]: word.partition("=")[2] for word in words if word.startswith("--")}
        chosen = metrics.chosen(given.get("metrics", "alignment").split(","))
        assert not any(metric.compares for metric in chosen.values()) or "reference" in given, where
        paths = scorers.paths_of(given["weights"].split(",") if "weights" in given else [])
        needed = {network for metric in chosen.values() for network in metric.networks} - {"alignment", "efficientnet"}
        assert needed <= set(paths), where
        assert given.get("rerank", "clip").partition("=")[0] in scorers.SCORERS
        assert given["prompts"] in prompt_sets.SETS or Path(given["prompts"]).suffix in (".csv", ".json", ".txt")
        assert ("checkpoint" in given) != ("images" in given)
    assert found >= 8


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"{block.page}:{block.line}")
def test_python_compiles_and_its_imports_exist(block: Block) -> None:
    text = block.text
    if ">>>" in text:
        text = "".join(example.source for example in doctest.DocTestParser().get_examples(text))
    for node in ast.walk(compile(text, block.name, "exec", ast.PyCF_ONLY_AST)):
        if isinstance(node, ast.Import):
            assert all(find_spec(name.name) for name in node.names) or row(block.name) in REASONS
        elif isinstance(node, ast.ImportFrom):
            module = import_module(str(node.module))
            assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)


@pytest.mark.parametrize("page", sorted({block.page for block in PYTHON if ">>>" in block.text}))
def test_sessions_of_python_show_what_is_printed(page: str) -> None:
    # A fence ends a session, but doctest knows only an empty line.
    text = (ROOT / page).read_text(encoding="utf-8").replace("```", "\n")
    test = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    assert test.examples and doctest.DocTestRunner().run(test).failed == 0


COMMANDS = """# from the start
python a.py --x='1 # 2' \\
  --y="b && c"   # ends
A="1 2"
cd x && python b.py; ls
"""


def test_commands_are_split_as_a_shell_does() -> None:
    found = list(blocks.commands_of(Block("page.md", 10, "bash", COMMANDS)))
    assert [(c.line, c.text) for c in found] == [
        (11, "python a.py --x='1 # 2'    --y=\"b && c\""),
        *((14, text) for text in ("cd x", "python b.py", "ls")),
    ]
    assert [c.before for c in found] == [(), *((('A="1 2"',),) * 3)]
    used = Command("page.md", 1, ('A="1 2"',), "echo $A '*'")
    assert blocks.words([used]) == [["echo", "1", "2", "*"]]


def test_output_in_a_console_is_no_command() -> None:
    text = "$ python a.py \\\n  --x\nsaved && done\n$ ls\na.py\n"
    found = list(blocks.commands_of(Block("page.md", 1, "console", text)))
    assert [(c.line, " ".join(c.text.split())) for c in found] == [(1, "python a.py --x"), (4, "ls")]


def test_here_documents_are_refused() -> None:
    with pytest.raises(AssertionError, match="not read"):
        list(blocks.parts("cat <<EOF\nx\nEOF\n"))


def test_blocks_are_found_in_lists_and_notebooks() -> None:
    text = "- a\n\n  ```bash\n  ls\n  ```\n\n    code\n"
    assert [(b.line, b.language, b.text) for b in blocks.blocks_of(text, "p")] == [(4, "bash", "ls\n")]
    assert [b.language for b in blocks.blocks_of("a\n\n    code\n", "p")] == ["indented"]
    notebook = next(page for page in blocks.pages() if page.suffix == ".ipynb")
    assert "#" in blocks.markdown(notebook) and '"cells"' not in blocks.markdown(notebook)


def test_what_is_installed_exists() -> None:
    """Nothing is published yet: extras are installed from a clone, and are those of setup.py."""
    files = [*blocks.pages(), *ROOT.glob("ernie_vilg_jax/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
    found = set()
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"pip install .?ernie_vilg_jax", text), f"{file}: say pip install '.[EXTRA]', in a clone"
        found |= set(re.findall(r"'\.\[([\w,]+)\]'", text)) | set(re.findall(r"\binstall\('(\w+)'\)", text))
    extras = re.findall(r'^    "(\w+)": \[', (ROOT / "setup.py").read_text(), re.M)
    assert {name for names in found for name in names.split(",")} <= set(extras) and len(found) > 8
