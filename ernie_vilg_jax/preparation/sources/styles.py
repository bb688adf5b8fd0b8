"""The art styles of the emoji set and the CLDR's names: pinned packages, licences, and how captions call each look."""

from __future__ import annotations

import dataclasses

from ernie_vilg_jax.preparation.sources import Licence
from ernie_vilg_jax.preparation.sources.npm import Package


@dataclasses.dataclass(frozen=True)
class Style:
    """One hand: its package, how captions call its look, and whom to thank."""

    package: Package
    zh: str
    en: str
    licence: str
    author: str
    url: str


_FLUENT = "https://github.com/microsoft/fluentui-emoji"
_NOTO = "https://github.com/googlefonts/noto-emoji"

STYLES: dict[str, Style] = {
    "noto": Style(
        Package(
            "@iconify-json/noto",
            "1.2.9",
            "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        ),
        "谷歌风格",
        "Google style",
        "Apache-2.0",
        "Google Inc",
        _NOTO,
    ),
    "noto-v1": Style(
        Package(
            "@iconify-json/noto-v1",
            "1.2.5",
            "sha512-/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
        ),
        "早期谷歌风格",
        "early Google style",
        "Apache-2.0",
        "Google Inc",
        _NOTO,
    ),
    "fluent-emoji-flat": Style(
        Package(
            "@iconify-json/fluent-emoji-flat",
            "1.2.6",
            "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        ),
        "扁平风格",
        "flat style",
        "MIT",
        "Microsoft Corporation",
        _FLUENT,
    ),
    "fluent-emoji": Style(
        Package(
            "@iconify-json/fluent-emoji",
            "1.2.7",
            "sha512-D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
        ),
        "渐变风格",
        "gradient style",
        "MIT",
        "Microsoft Corporation",
        _FLUENT,
    ),
    "fluent-emoji-high-contrast": Style(
        Package(
            "@iconify-json/fluent-emoji-high-contrast",
            "1.2.6",
            "sha512-esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==",
        ),
        "黑白剪影风格",
        "black and white silhouette",
        "MIT",
        "Microsoft Corporation",
        _FLUENT,
    ),
    "fxemoji": Style(
        Package(
            "@iconify-json/fxemoji",
            "1.2.2",
            "sha512-UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
        ),
        "火狐风格",
        "Firefox style",
        "Apache-2.0",
        "Mozilla",
        "https://github.com/mozilla/fxemoji",
    ),
    "twemoji": Style(
        Package(
            "@iconify-json/twemoji",
            "1.2.5",
            "sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
        ),
        "推特风格",
        "Twitter style",
        "CC-BY-4.0",
        "Twitter, Inc and other contributors",
        "https://github.com/jdecked/twemoji",
    ),
    "emojione": Style(
        Package(
            "@iconify-json/emojione",
            "1.2.3",
            "sha512-T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
        ),
        "卡通风格",
        "cartoon style",
        "CC-BY-4.0",
        "EmojiOne and EmojiTwo contributors",
        "https://github.com/EmojiTwo/emojitwo",
    ),
    "fluent-emoji-3d": Style(
        Package(
            "@lobehub/fluent-emoji-3d",
            "1.1.0",
            "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        ),
        "立体风格",
        "3D style",
        "MIT",
        "Microsoft Corporation, packaged by LobeHub",
        "https://github.com/lobehub/fluent-emoji",
    ),
}
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
