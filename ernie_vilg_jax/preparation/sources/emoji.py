"""Bilingual emoji art: permissively licensed drawings joined with the Unicode CLDR's names and keywords in zh and en.

Every concept comes in up to nine styles. The art is fetched as pinned npm packages (see `npm.py`) and rendered
on white. Icon sets: https://icon-sets.iconify.design; names: https://github.com/unicode-org/cldr-json.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import re
import unicodedata
from importlib import metadata
from typing import Any

from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import encode_png
from ernie_vilg_jax.preparation.sources import Drawn, Licence
from ernie_vilg_jax.preparation.sources.everyday import EVERYDAY, Everyday
from ernie_vilg_jax.preparation.sources.npm import Tarball
from ernie_vilg_jax.preparation.sources.styles import CLDR, CLDR_DERIVED, CLDR_LICENCE, RASTER, STYLES, Style
from ernie_vilg_jax.tables import rows

RECIPE = 1
"""Increased when the code below makes other records from the same options and packages."""

MISDRAWN = {(style, emoji) for style, emoji, *_ in rows("misdrawn.tsv")}
"""Images that do not show their everyday name, found on a contact sheet; left out."""

MINIMUM_STYLES = 5
"""Everyday concepts with fewer styles are left out: a model learns them badly."""


@functools.cache
def cldr_names(language: str) -> dict[str, dict[str, list[str]]]:
    """CLDR: emoji without U+FE0F -> {"tts": [short name], "default": keywords}, base emoji and derived sequences."""
    base = Tarball(CLDR).json(f"annotations/{language}/annotations.json")["annotations"]["annotations"]
    derived = Tarball(CLDR_DERIVED).json(f"annotationsDerived/{language}/annotations.json")
    merged = dict(derived["annotationsDerived"]["annotations"]) | dict(base)
    return {emoji.replace("\ufe0f", ""): entry for emoji, entry in merged.items() if entry.get("tts")}


def code_points(emoji: str) -> str:
    """'1f468-200d-1f33e': the usual file name of an emoji, without U+FE0F."""
    return "-".join(f"{ord(c):x}" for c in emoji if c != "\ufe0f")


def _without_fe0f(codes: str) -> str:
    return "-".join(part for part in codes.lower().split("-") if part != "fe0f")


def slug(name: str) -> str:
    """An icon set's spelling of a CLDR name: "jack-o-lantern"."""
    text = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", text.replace("&", "and").replace("'", "")).strip("-")


class IconSet:
    """One Iconify package: finds the icon of an emoji and gives its SVG."""

    def __init__(self, style: str) -> None:
        tarball = Tarball(STYLES[style].package)
        files = [name for name in ("icons.json", "chars.json") if name in tarball.names]
        data = {name: json.loads(content) for name, content in tarball.read(*files).items()}
        self._set: dict[str, Any] = data["icons.json"]
        self._by_code = {_without_fe0f(codes): name for codes, name in data.get("chars.json", {}).items()}

    def _resolve(self, name: str) -> str | None:
        for _ in range(5):
            alias = self._set.get("aliases", {}).get(name)
            if alias is None:
                break
            if any(turn in alias for turn in ("rotate", "hFlip", "vFlip")):
                return None
            name = alias["parent"]
        return name if name in self._set["icons"] else None

    def find(self, emoji: str) -> str | None:
        """The icon of an emoji by code point, else by the CLDR or Unicode name."""
        candidates = [self._by_code.get(code_points(emoji))]
        if named := cldr_names("en").get(emoji):
            candidates.append(slug(named["tts"][0]))
        if len(emoji) == 1:
            candidates.append(slug(unicodedata.name(emoji, "")))
        for candidate in candidates:
            if candidate and (icon := self._resolve(candidate)):
                return icon
        return None

    def svg(self, icon: str) -> str:
        body = self._set["icons"][icon]
        height = body.get("height", self._set.get("height", 16))
        width = body.get("width", self._set.get("width", height))
        left, top = body.get("left", self._set.get("left", 0)), body.get("top", self._set.get("top", 0))
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{body["body"]}</svg>'
        )


class RasterSet:
    """The 3D style: one WebP file per emoji."""

    def __init__(self, style: str) -> None:
        self._tarball = Tarball(STYLES[style].package)
        self._files = {
            _without_fe0f(name.removeprefix("assets/").removesuffix(".webp")): name
            for name in sorted(self._tarball.names)
            if name.startswith("assets/") and name.endswith(".webp")
        }
        self._bytes: dict[str, bytes] | None = None

    def find(self, emoji: str) -> str | None:
        return self._files.get(code_points(emoji))

    def bytes(self, file: str) -> bytes:
        if self._bytes is None:
            self._bytes = self._tarball.read(*self._files.values())
        return self._bytes[file]


@functools.cache
def icon_set(style: str) -> IconSet | RasterSet:
    """Loaded once per process: the largest set is 100 MB of JSON."""
    return RasterSet(style) if style == RASTER else IconSet(style)


def render_svg(svg: str, size: int, *, background: str | None = None) -> bytes:
    """PNG of an SVG at `size` x `size` pixels."""
    import resvg_py

    return bytes(
        resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, background=background, skip_system_fonts=True)
    )


def _on_white(data: bytes, size: int) -> bytes:
    """RGB PNG of `size` pixels, alpha blended onto white, aspect ratio kept."""
    from PIL import Image

    art = Image.open(io.BytesIO(data)).convert("RGBA")
    if max(art.size) > size:
        art.thumbnail((size, size), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (size, size), "white")
    canvas.paste(art, ((size - art.width) // 2, (size - art.height) // 2), art)
    return encode_png(canvas, optimize=True)


@dataclasses.dataclass
class EmojiSource(Drawn):
    """Options of the emoji source.

    Attributes:
      size: pixels per side.
      styles: art styles; () = all of `STYLES`.
      concepts: "everyday" (the curated list, own names) or "all" (each CLDR emoji without skin tone, CLDR's names).
      only: English names of the everyday concepts to take; () = all of them.
      max_concepts: the first n concepts only; 0 = no limit.
    """

    size: int = 64
    styles: tuple[str, ...] = ()
    concepts: str = "everyday"
    only: tuple[str, ...] = ()
    max_concepts: int = 0
    name: str = dataclasses.field(default="emoji", init=False)

    def __post_init__(self) -> None:
        self.styles = tuple(self.styles) or tuple(STYLES)
        if unknown := [style for style in self.styles if style not in STYLES]:
            raise UserError(f"source 'emoji' has no style {unknown[0]!r}: choose from {', '.join(STYLES)}")
        if self.concepts not in ("everyday", "all"):
            raise UserError(f"source 'emoji': concepts={self.concepts!r} must be 'everyday' or 'all'")
        self.only = tuple(self.only)
        if unknown := sorted(set(self.only) - {concept.en for concept in EVERYDAY.values()}):
            raise UserError(f"source 'emoji': only={unknown[0]!r} is not an everyday concept (assets/everyday.tsv)")
        if self.only and self.concepts != "everyday":
            raise UserError("source 'emoji': only=… chooses among everyday concepts, so it needs concepts='everyday'")

    @functools.cached_property
    def _entries(self) -> list[tuple[str, str, str]]:
        """(emoji, style, icon), all styles of a concept together."""
        english, chinese = cldr_names("en"), cldr_names("zh")
        if self.concepts == "everyday":
            wanted = {emoji for emoji, concept in EVERYDAY.items() if not self.only or concept.en in self.only}
            emojis = [emoji for emoji in EVERYDAY if emoji in wanted and emoji in english and emoji in chinese]
            needed = min(MINIMUM_STYLES, len(self.styles))
        else:
            emojis = [e for e in english if e in chinese and not any(0x1F3FB <= ord(c) <= 0x1F3FF for c in e)]
            needed = 1
        entries, kept = [], 0
        for emoji in emojis:
            icons = [(style, icon_set(style).find(emoji)) for style in self.styles]
            found = [(emoji, style, icon) for style, icon in icons if icon]
            if self.concepts == "everyday":
                found = [entry for entry in found if (entry[1], emoji) not in MISDRAWN]
            if len(found) < needed:
                continue
            entries += found
            kept += 1
            if kept == self.max_concepts:
                break
        return entries

    @property
    def total(self) -> int:
        return len(self._entries)

    def record(self, index: int) -> Record:
        emoji, style, icon = self._entries[index]
        art, look = icon_set(style), STYLES[style]
        if isinstance(art, RasterSet):
            image = _on_white(art.bytes(icon), self.size)
        else:
            svg = art.svg(icon).replace("currentColor", "#111111")
            image = _on_white(render_svg(svg, self.size, background="#ffffff"), self.size)
        english, chinese = cldr_names("en")[emoji], cldr_names("zh")[emoji]
        if self.concepts == "everyday":
            captions = everyday_captions(EVERYDAY[emoji], look)
        else:
            en, zh = plain_name(english["tts"][0]), plain_name(chinese["tts"][0])
            captions = {"zh": [zh, f"{zh}，{look.zh}"], "en": [en, f"{en}, {look.en}"]}
        return Record(
            id=f"emoji/{style}/{code_points(emoji)}",
            image=image,
            captions=captions,
            concept=f"emoji/{code_points(emoji)}",
            source=self.name,
            keywords={"zh": list(chinese.get("default", [])), "en": list(english.get("default", []))},
            style={"zh": look.zh, "en": look.en},
            licence=look.licence,
            width=self.size,
            height=self.size,
        )

    def fingerprint(self) -> str:
        packages = [STYLES[style].package for style in self.styles] + [CLDR, CLDR_DERIVED]
        return digest(
            {
                "recipe": RECIPE if self.concepts == "everyday" else [RECIPE, "plain names"],
                "options": [self.size, self.styles, self.concepts, self.only, self.max_concepts],
                "packages": [package.integrity for package in packages],
                "everyday": [dataclasses.astuple(concept) for concept in EVERYDAY.values()],
                "misdrawn": sorted(MISDRAWN),
                "looks": [[STYLES[style].zh, STYLES[style].en] for style in self.styles],
                "tools": {name: metadata.version(name) for name in ("resvg_py", "pillow")},
            }
        )

    def licences(self) -> list[Licence]:
        looks = [(style, STYLES[style]) for style in self.styles]
        art = [
            Licence(f"{look.package.name} {look.package.version} ({style})", look.licence, look.author, look.url)
            for style, look in looks
        ]
        return [*art, CLDR_LICENCE]


def plain_name(name: str) -> str:
    """A CLDR name in natural language: "flag: China" -> "flag of China", 旗: 中国 -> 中国的旗帜."""
    kind, colon, what = name.partition(": ")
    if not colon:
        return name
    return {"flag": f"flag of {what}", "旗": f"{what}的旗帜"}.get(
        kind, f"{kind}, {what}" if kind.isascii() else f"{kind}，{what}"
    )


def everyday_captions(concept: Everyday, look: Style) -> dict[str, list[str]]:
    """Plain name, a natural phrase, a template, and both with the style."""
    return {
        "zh": [
            concept.zh,
            concept.zh_phrase,
            f"一幅{concept.zh}的图画",
            f"{concept.zh}，{look.zh}",
            f"{concept.zh_phrase}，{look.zh}",
        ],
        "en": [
            concept.en,
            concept.en_phrase,
            f"a picture of {concept.en_phrase}",
            f"{concept.en}, {look.en}",
            f"{concept.en_phrase}, {look.en}",
        ],
    }
