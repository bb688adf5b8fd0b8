"""Styles: words appended to a prompt, those of a model's training data or those of ERNIE-ViLG's public service."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.tables import ASSETS, rows

HANZI = re.compile("[\u3400-\u9fff]")


class Style(NamedTuple):
    """A style, as it is appended to a prompt."""

    zh: str
    en: str

    def after(self, prompt: str) -> str:
        """The prompt with the style, in the prompt's language: as the captions of the emoji set do."""
        return f"{prompt}，{self.zh}" if HANZI.search(prompt) else f"{prompt}, {self.en}"


SERVICE = (
    Style("古风", "ancient Chinese style"),
    Style("油画", "oil painting"),
    Style("水彩", "watercolour"),
    Style("卡通", "cartoon"),
    Style("二次元", "anime"),
    Style("浮世绘", "ukiyo-e"),
    Style("蒸汽波艺术", "vaporwave"),
    Style("low poly", "low poly"),
    Style("像素风格", "pixel art"),
    Style("概念艺术", "concept art"),
    Style("未来主义", "futurism"),
    Style("赛博朋克", "cyberpunk"),
    Style("写实风格", "realistic"),
    Style("洛丽塔风格", "Lolita style"),
    Style("巴洛克风格", "Baroque"),
    Style("超现实主义", "surrealism"),
    Style("探索无限", "explore without limits"),
)
"""The 17 presets of the service that the paper's authors offered; the English words are ours."""
OURS = (Style("中国水墨画", "Chinese ink painting"), Style("铅笔素描", "pencil sketch"))


def of_emoji(names: Any = None) -> tuple[Style, ...]:
    """The styles of the emoji set by their names in `assets/styles.json`; all without names."""
    known = _art()
    return tuple(known[name] for name in names or known)


def of_composed(looks: Any = None) -> tuple[Style, ...]:
    """The looks of composed scenes by their keys in `assets/scenes/looks.tsv`; all without keys."""
    known = {key: Style(zh.split("|")[0], en.split("|")[0]) for key, en, _, _, zh, _ in rows("scenes/looks.tsv")}
    known |= {key: style for key, style in _art().items() if key in known}
    return tuple(known[look] for look in looks or known)


def _art() -> dict[str, Style]:
    known: Mapping[str, Any] = json.loads((ASSETS / "styles.json").read_text(encoding="utf-8"))
    return {name: Style(style["zh"], style["en"]) for name, style in known.items()}


def styles_of(config: ConfigDict) -> dict[str, Style]:
    """English name -> style, of those that a model of this config was trained on.

    A model of emoji or composed scenes knows the styles named in its captions. Captions of other data name no fixed
    styles: then they are those of the service and ours.
    """
    named: list[Style] = []
    for source in config.data.sources:
        if source["name"] == "emoji":
            named += of_emoji(source.get("styles"))
        elif source["name"] == "composed":
            named += of_composed(source.get("looks"))
    return {style.en: style for style in named or (*SERVICE, *OURS)}


def find(name: Any, config: ConfigDict) -> Style:
    """The style of an English or Chinese name. Raises UserError naming those of the model."""
    known = styles_of(config)
    for style in (*known.values(), *SERVICE, *OURS, *of_emoji(), *of_composed()):
        if name in style:
            return style
    raise UserError(f"style={name!r} is not known; choose from {', '.join(known)}")
