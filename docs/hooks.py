"""Hooks of mkdocs.yml: pages that lie outside of docs/, and links to files that are not pages.

Documents link to each other as on GitHub, by their paths in the repository. The first page of the site is README.md.
Links to source files lead to the address of `repository-code` in CITATION.cff, and are plain text while it has none.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

import yaml
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
ADDRESS = str(yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8")).get("repository-code", "")).rstrip(
    "/"
)
PLACES = {
    "README.md": "index.md",
    "README.zh.md": "zh.md",
    "docs/index.md": "pages.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "launch/README.md": "launching.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Path in the repository -> path of the page."""
PATHS = {place: path for path, place in PLACES.items()}
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\]|!\[[^]]*\]\([^)]*\))*)\]\((?!\w+:)([^)#]*)(#[^)]*)?\)")


def on_config(config: Any) -> Any:
    config.repo_url = ADDRESS or None
    return config


def on_files(files: Any, config: Any) -> Any:
    files.remove(files.get_file_from_path("index.md"))  # of docs/, whose place README.md takes
    for path, place in PLACES.items():
        files.append(File.generated(config, place, content=(ROOT / path).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    path = PATHS.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    page.edit_url = f"{ADDRESS}/edit/main/{path}" if ADDRESS else None

    def leads(found: re.Match[str]) -> str:
        image, text, target, anchor = found[1], found[2], found[3], found[4] or ""
        text = LINK.sub(leads, text)
        if not target:
            return f"{image}[{text}]({anchor})"
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        place = PLACES.get(target, target.removeprefix("docs/"))
        if files.get_file_from_path(place):
            return f"{image}[{text}]({posixpath.relpath(place, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"
        if not (ROOT / target).exists():
            return f"{image}[{text}]({target}{anchor})"  # leads nowhere, which --strict tells
        return f"[{text}]({ADDRESS}/tree/main/{target}{anchor})" if ADDRESS else text

    parts = re.split(r"(^ *```.*?^ *```$)", markdown, flags=re.M | re.S)
    return "".join(part if part.lstrip().startswith("```") else LINK.sub(leads, part) for part in parts)
