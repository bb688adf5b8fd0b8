"""The documents as a site: every link and anchor leads somewhere, in both languages; needs `pip install '.[docs]'`."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents.blocks import ROOT

pytest.importorskip("mkdocs", reason="the site needs the extra `docs`")
pytest.importorskip("material", reason="the site needs the extra `docs`")
pytestmark = pytest.mark.documents


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, cwd=root, text=True, capture_output=True)


def clone(folder: Path) -> Path:
    """What the site is made of."""
    folder.mkdir()
    for path in (*ROOT.glob("*.md"), *(ROOT / name for name in ("mkdocs.yml", "CITATION.cff", "NOTICE", "LICENSE"))):
        shutil.copy(path, folder)
    for name in ("docs", "launch", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("ernie_vilg_jax", "configs", "colab", "tests"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    done = build(ROOT, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    first, chinese, tpu = (
        (tmp_path / page).read_text(encoding="utf-8") for page in ("index.html", "zh/index.html", "tpu/index.html")
    )
    assert 'href="zh/"' in first and 'src="images/demo_grid.png"' in first and 'href="../">English' in chinese
    assert 'id="安装"' in chinese and 'id="the-papers-config-at-1024-x-1024-pixels"' in tpu
    found = json.loads((tmp_path / "search/search_index.json").read_text(encoding="utf-8"))["docs"]
    words = next(one["title"] for one in found if one["location"].endswith("/#项目内容"))
    assert words.split("\u200b") == ["项目", "内容"]
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        # Nothing is loaded from elsewhere, and no link leads out of the site to a file of the repository.
        assert not any(f'{tag} src="http' in text for tag in ("script", "img")), page
        assert 'rel="stylesheet" href="http' not in text and not re.search(r'href="[^"]*[.]py"', text), page


@pytest.mark.parametrize(
    ("page", "added", "told"),
    [
        ("README.zh.md", "[x](docs/nowhere.md)", "docs/nowhere.md"),
        ("docs/api.md", "[x](data.md#no-such-section)", "no-such-section"),
        ("docs/api.md", "![x](images/no_such.png)", "no_such.png"),
        ("docs/forgotten.md", "# Forgotten", "forgotten.md"),
    ],
)
def test_what_leads_nowhere_is_an_error(page: str, added: str, told: str, tmp_path: Path) -> None:
    root = clone(tmp_path / "clone")
    with (root / page).open("a", encoding="utf-8") as file:
        file.write(f"\n{added}\n")
    done = build(root, tmp_path / "site")
    assert done.returncode != 0 and told in done.stderr, done.stderr


def test_source_files_are_linked_at_the_one_address(tmp_path: Path) -> None:
    root = clone(tmp_path / "clone")
    with (root / "CITATION.cff").open("a") as file:
        file.write("repository-code: https://example.org/ernie/\n")
    assert build(root, tmp_path / "site").returncode == 0
    api, launching = ((tmp_path / f"site/{page}/index.html").read_text() for page in ("api", "launching"))
    assert "https://example.org/ernie/tree/main/ernie_vilg_jax/checkpoint.py" in api
    assert "https://example.org/ernie/edit/main/docs/api.md" in api
    assert "https://example.org/ernie/edit/main/launch/README.md" in launching
