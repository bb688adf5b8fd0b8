"""The art styles of the emoji set and the CLDR's names: pinned packages, licences, and their words in captions."""

from __future__ import annotations

import dataclasses
import json

from ernie_vilg_jax.preparation.sources import Licence
from ernie_vilg_jax.preparation.sources.npm import Package
from ernie_vilg_jax.tables import ASSETS


@dataclasses.dataclass(frozen=True)
class Style:
    """One style: its package, its words in captions, and its attribution."""

    package: Package
    zh: str
    en: str
    licence: str
    author: str
    url: str


def _style(package: str, version: str, integrity: str, **look: str) -> Style:
    return Style(Package(package, version, integrity), **look)


STYLES: dict[str, Style] = {
    name: _style(**fields) for name, fields in json.loads((ASSETS / "styles.json").read_text(encoding="utf-8")).items()
}
"""Name -> style, from assets/styles.json."""
RASTER = "fluent-emoji-3d"
"""The one style that is published as pixels (WebP, 256 px), not as SVG."""

CLDR = Package(
    "cldr-annotations-full",
    "48.2.0",
    "sha512-DV7A+rEcgUSNTRsVGNGqBZRmAkGfwhGHO5Q1dRwzBoBnVrHWp804JP7/QJdEc66iHmx3+zLWVIMCFLm0lW7PUQ==",
)
CLDR_DERIVED = Package(
    "cldr-annotations-derived-full",
    "48.2.0",
    "sha512-log62km+AOzI7n/NEuNNFV0mg9DWnt67EYCh1RwxZq9dyRuyteB586LT83Ke8TchEfnwI9cIk2P31zO4nTvZmw==",
)
CLDR_LICENCE = Licence(
    "Unicode CLDR short names and keywords (zh, en)", "Unicode-3.0", "Unicode, Inc.", "https://cldr.unicode.org"
)
