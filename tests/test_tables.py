"""The hand-edited files in `assets`."""

import re
from pathlib import Path

import pytest

from ernie_vilg_jax import tables

PACKAGE = tables.ASSETS.parent
PATTERNS = ("*.tsv", "scenes/*.tsv", "study/*.tsv", "lexicons/**/*.*")
PATHS = [path for pattern in PATTERNS for path in tables.ASSETS.glob(pattern)]
FILES = sorted(path.relative_to(tables.ASSETS).as_posix() for path in PATHS)


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_a_header_and_is_not_empty(name: str):
    assert (tables.ASSETS / name).read_text(encoding="utf-8").startswith("# ")
    assert tables.words(name) and "" not in tables.words(name)
    assert not any(word != word.strip() for word in tables.words(name))


def test_every_file_has_a_reader():
    code = "".join(file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py"))
    read = set(re.findall(r"(?:rows|words)\(f?\"(\S+)\"\)", code))
    read = {name.replace("{language}", language) for name in read for language in ("zh", "en")}
    assert read == set(FILES)


def test_lines_become_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "ASSETS", tmp_path)
    (tmp_path / "a.tsv").write_text("# name\n\nhot dog\t热狗\n", encoding="utf-8")
    (tmp_path / "a.txt").write_text("# name\nhot dog\n\n热狗\n", encoding="utf-8")
    assert tables.rows("a.tsv") == (("hot dog", "热狗"),)
    assert tables.words("a.txt") == {"hot", "dog", "热狗"}
