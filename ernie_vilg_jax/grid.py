"""Output images: a grid with a Chinese or English label under each image, and PNGs with their settings as metadata.

Labels need a font with hanzi, and many machines have none, so a subset of Noto Sans CJK SC comes with the package
(assets/fonts). Characters that it lacks are taken from the system's fonts, or written as <U+1F43C> with a warning if no
font has them.
"""

import io
import json
import math
import re
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.paths import write_atomically
from ernie_vilg_jax.tables import ASSETS

BUNDLED_FONT = ASSETS / "fonts" / "NotoSansSC-Regular-subset.otf"
SYSTEM_FONT_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "C:/Windows/Fonts",
)
# Parts of the file names of common fonts with simplified hanzi or many symbols, in order of preference. Only these are
# opened: a desktop can have thousands of fonts.
SYSTEM_FONT_NAMES = (
    "notosanscjk",
    "notosanssc",
    "sourcehansans",
    "wqy",
    "droidsansfallback",
    "pingfang",
    "msyh",
    "simhei",
    "arialunicode",
    "dejavusans",
)

GROUND, INK = "white", (40, 40, 40)
# A hanzi keeps the closing punctuation after it: no line begins with 。 or ，.
_TOKEN = re.compile(r"\n|[^\S\n]+|[\u2e80-\uffff][，。！？、；：）》」』”’]*|[^\s\u2e80-\uffff]+")


def labelled_grid(
    images: Sequence[Image.Image], labels: Sequence[str], columns: int | None = None, cell: int = 160
) -> Image.Image:
    """Images in rows, each scaled to fit `cell` x `cell` pixels, with its label wrapped and centred beneath it.

    A label may have newlines, for example a Chinese prompt and its English translation. Without `columns`, the grid is
    about square, and at most eight wide. Every row is as high as its longest label needs, so nothing overlaps.
    """
    if not images or len(images) != len(labels):
        raise ValueError(f"a grid needs one label per picture and one picture at least: {len(images)}, {len(labels)}.")
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images), 8 if columns is None else columns)
    size, margin = max(12, cell // 10), max(6, cell // 16)
    line_height = round(size * 1.4)

    blocks = []
    for label in labels:
        text, font = _text_and_font(label, size)
        blocks.append((_wrap(text, font, cell), font))
    rows = [range(i, min(i + columns, len(images))) for i in range(0, len(images), columns)]
    label_heights = [max(len(blocks[i][0]) for i in row) * line_height for row in rows]

    width = columns * (cell + margin) + margin
    height = sum(cell + label_height + 2 * margin for label_height in label_heights) + margin
    sheet = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(sheet)
    top = margin
    for row, label_height in zip(rows, label_heights, strict=True):
        for column, i in enumerate(row):
            left = margin + column * (cell + margin)
            shown = _fit(images[i], cell)
            sheet.paste(shown, (left + (cell - shown.width) // 2, top + (cell - shown.height) // 2))
            lines, font = blocks[i]
            for n, line in enumerate(lines):
                x = left + (cell - font.getlength(line)) / 2
                draw.text((x, top + cell + margin // 2 + n * line_height), line, fill=INK, font=font)
        top += cell + label_height + 2 * margin
    return sheet


def save_png(image: Image.Image, path: str | Path, metadata: Mapping[Any, Any] | None = None) -> None:
    """Writes a PNG whose text chunks hold `metadata`: strings as they are, all else as JSON.

    Images of the pipeline have their settings: `save_png(image, path, image.info)`. `Image.open(path).text` reads them
    back. Parent folders are created.
    """
    info = PngInfo()
    for key, value in (metadata or {}).items():
        info.add_text(str(key), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    path, buffer = Path(path), io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    with file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, buffer.getvalue())


def _fit(image: Image.Image, cell: int) -> Image.Image:
    """The whole image within cell x cell, with its aspect ratio; transparency becomes the background colour."""
    if image.mode in ("RGBA", "LA", "P", "PA"):
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, GROUND)
        image = Image.alpha_composite(ground, image)
    scale = cell / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines of at most `width` pixels: broken between words and between hanzi, and inside a word only if it must be."""
    lines, line = [], ""
    for token in _TOKEN.findall(text):
        if token == "\n":
            lines.append(line.rstrip())
            line = ""
            continue
        if font.getlength(line + token.rstrip()) > width and line:
            lines.append(line.rstrip())
            line = ""
        token = token if line else token.lstrip()
        while font.getlength(token) > width and len(token) > 1:
            fits = max(bisect_right(range(len(token)), width, key=lambda n: font.getlength(token[:n])) - 1, 1)
            lines.append(token[:fits])
            token = token[fits:]
        line += token
    return [*lines, line.rstrip()] if line.strip() else lines or [""]


def _text_and_font(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """The first font that has every character of `text`; otherwise the first font, with missing characters escaped."""
    first: ImageFont.FreeTypeFont | None = None
    for path in _font_files():
        try:
            font = _load(path, size)
        except OSError:  # a system font that FreeType cannot read is skipped
            continue
        first = first or font
        if all(_has(font, character) for character in set(text)):
            return text, font
    if first is None:
        raise UserError(f"No font to write labels with: {BUNDLED_FONT} is missing; reinstall the package.")
    missing = sorted({character for character in text if not _has(first, character)})
    warnings.warn(f"No font here has {' '.join(map(_code_point, missing))}; labels show the code point.", stacklevel=3)
    return "".join(_code_point(c) if c in missing else c for c in text), first


def _font_files() -> Iterator[Path]:
    if BUNDLED_FONT.exists():
        yield BUNDLED_FONT
    yield from _system_fonts()


@cache
def _system_fonts() -> tuple[Path, ...]:
    ranked = []
    for folder in SYSTEM_FONT_FOLDERS:
        for file in sorted(Path(folder).expanduser().rglob("*")):
            plain = re.sub(r"[^a-z]", "", file.stem.lower())
            rank = next((i for i, name in enumerate(SYSTEM_FONT_NAMES) if name in plain), None)
            if rank is not None and file.suffix.lower() in (".ttf", ".ttc", ".otf"):
                ranked.append((rank, file))
    return tuple(file for _, file in sorted(ranked))


@cache
def _load(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@cache
def _has(font: ImageFont.FreeTypeFont, character: str) -> bool:
    """FreeType draws the same box for every character that a font lacks; U+FFFF is in none."""
    return character.isspace() or _drawn(font, character) != _drawn(font, "\uffff")


@cache
def _drawn(font: ImageFont.FreeTypeFont, character: str) -> bytes:
    side = 2 * int(font.size)
    image = Image.new("L", (side, side))
    ImageDraw.Draw(image).text((0, 0), character, fill=255, font=font)
    return image.tobytes()


def _code_point(character: str) -> str:
    return f"<U+{ord(character):04X}>"
