"""A page of training examples, as the loader draws them from records for a model.

Each example: the cropped image, overlaid with salient objects and the loss weights; its caption with the key words
coloured by part of speech; its tokens, including special tokens, with their attention weights.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from ernie_vilg_jax.data.examples import Drawn, ExampleMaker

PARTS = {"n": "noun", "v": "verb", "a": "adjective", "m": "numeral", "q": "measure word", "r": "pronoun"}

_STYLE = """
:root { color-scheme: light dark; --card: #fff; --ground: #f3f4f6; --ink: #1f2328; --faint: #6b7280; --line: #d5d9e0 }
@media (prefers-color-scheme: dark) {
  :root { --card: #1c2128; --ground: #0f1318; --ink: #e6e8eb; --faint: #9aa4b0; --line: #3a424d } }
body { margin: 0; padding: 1.2rem; background: var(--ground); color: var(--ink); font: 15px/1.45 system-ui, sans-serif }
h1 { font-size: 1.25rem; margin: 0 0 .3rem } p { margin: .3rem 0 } .faint { color: var(--faint); font-size: .85rem }
.bar { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; align-items: center; margin: .8rem 0 }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem; min-width: 0 }
.picture { position: relative; aspect-ratio: 1; width: 100%; overflow: hidden; border-radius: .3rem }
.picture > * { position: absolute; inset: 0; width: 100%; height: 100% }
.picture img { image-rendering: pixelated }
.boxes rect { fill: none; stroke: #d6249f; stroke-width: 2; vector-effect: non-scaling-stroke }
.names span { position: absolute; background: #d6249f; color: #fff; font-size: .72rem; padding: 0 .3rem;
  white-space: nowrap }
.caption { font-size: 1.05rem; margin: .6rem 0 .4rem; overflow-wrap: anywhere }
.word { border-radius: .25rem; padding: 0 .15rem; color: #111 }
.n { background: #ffd58a } .v { background: #a9d8ff } .a { background: #b9efb4 } .m { background: #e3c5ff }
.q { background: #ffc4cf } .r { background: #d2d6dc }
.tokens { display: flex; flex-wrap: wrap; gap: .2rem; margin: .3rem 0 }
.token { border: 1px solid var(--line); border-radius: .25rem; padding: 0 .25rem; font: .78rem ui-monospace, monospace }
.token.symbol { color: #111; font-weight: 600 } .token b { color: #b4237a; font-weight: 600; margin-left: .2rem }
@media (prefers-color-scheme: dark) { .token b { color: #ff8fd0 } }
body.no-boxes .boxes, body.no-boxes .names, body.no-weights .weights { display: none }
"""
_SCRIPT = """
for (const name of ["boxes", "weights"])
  document.getElementById(name).addEventListener("change",
    (event) => document.body.classList.toggle("no-" + name, !event.target.checked))
"""


def page(maker: ExampleMaker, drawn: Sequence[Drawn], *, title: str, notes: Sequence[str] = ()) -> str:
    """The HTML of examples that `maker` drew; one self-contained file.

    Args:
      maker: converts each to the arrays of training, which the page shows.
      drawn: the examples, in the order of the page.
      title, notes: text above them.
    """
    counts = Counter(word.pos for example in drawn for word in example.words)
    legend = " ".join(f'<span class="word {pos}">{name} {counts[pos]}</span>' for pos, name in PARTS.items())
    boxes = sum(len(example.boxes) for example in drawn)
    cards = "\n".join(_card(maker, example) for example in drawn)
    paragraphs = "".join(f'<p class="faint">{escape(note)}</p>' for note in notes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{_STYLE}</style></head>
<body><h1>{escape(title)}</h1>{paragraphs}
<div class="bar"><span>{legend}</span>
<label><input type="checkbox" id="boxes" checked> {boxes} salient objects</label>
<label><input type="checkbox" id="weights" checked> loss weights</label></div>
<div class="cards">
{cards}
</div><script>{_SCRIPT}</script></body></html>
"""


def _card(maker: ExampleMaker, drawn: Drawn) -> str:
    arrays = maker.arrays(drawn)
    pixels = arrays["image"]
    weights = arrays["loss_weight"]
    rectangles, names = [], []
    shown = {tuple(map(float, box)): name for box, name in zip(drawn.boxes, drawn.names, strict=True)}
    for (x0, y0, x1, y1), name in shown.items():
        rectangles.append(f'<rect x="{x0:.4f}" y="{y0:.4f}" width="{x1 - x0:.4f}" height="{y1 - y0:.4f}"/>')
        label = f"left:{100 * min(max(x0, 0), 0.9):.1f}%;top:{100 * min(max(y0, 0), 0.94):.1f}%"
        names.append(f'<span style="{label}">{escape(name)}</span>')
    strongest = float(weights.max())
    lines = [f"loss up to ×{strongest:.3g}"] if strongest > 1 else []
    lines.append(f"{drawn.record.source}, {drawn.record.licence or 'licence unknown'}, record {drawn.index}")
    return f"""<article class="card" id="record-{drawn.index}">
<div class="picture"><img alt="" src="{_png(pixels)}"><img class="weights" alt="" src="{_png(_veil(weights))}">
<svg class="boxes" viewBox="0 0 1 1" preserveAspectRatio="none">{"".join(rectangles)}</svg>
<div class="names">{"".join(names)}</div></div>
<p class="caption">{_caption(drawn)}</p>
<div class="tokens">{_tokens(maker, arrays)}</div>
<p class="faint">{escape(drawn.record.id)}<br>{escape(" · ".join(lines))}</p></article>"""


def _caption(drawn: Drawn) -> str:
    if not drawn.text:
        return '<span class="faint">(caption dropped)</span>'
    pieces, end = [], 0
    for word in drawn.words:
        pieces.append(escape(drawn.text[end : word.start]))
        text = escape(drawn.text[word.start : word.end])
        pieces.append(f'<span class="word {word.pos}" title="{PARTS[word.pos]}">{text}</span>')
        end = word.end
    return "".join([*pieces, escape(drawn.text[end:])])


def _tokens(maker: ExampleMaker, arrays: dict[str, np.ndarray]) -> str:
    symbols = {number: pos for pos, number in maker.tokenizer.symbol_ids.items()}
    ids = arrays["tokens"][arrays["token_mask"]].tolist()
    weights = arrays["token_weight"][arrays["token_mask"]].tolist()
    chips = []
    for place, (number, weight) in enumerate(zip(ids, weights, strict=True)):
        factor = f"<b>×{weight:.4g}</b>" if weight != 1 else ""
        if place in (0, len(ids) - 1):
            chips.append(f'<span class="token faint">{"begin" if place == 0 else "end"}</span>')
        elif number in symbols:
            chips.append(f'<span class="token symbol {symbols[number]}">[{symbols[number]}]</span>')
        else:
            text = maker.tokenizer.decode([number]) or "␣"
            chips.append(f'<span class="token">{escape(text)}{factor}</span>')
    return "".join(chips)


def _veil(weights: np.ndarray) -> np.ndarray:
    """[h, w] loss weights -> [h, w, 4] uint8: clear where the weight is 1, orange where it is largest."""
    strength = (weights - 1) / max(float(weights.max()) - 1, 1e-9)
    veil = np.zeros((*weights.shape, 4), np.uint8)
    veil[..., :3] = (255, 120, 0)
    veil[..., 3] = np.clip(strength, 0, 1) * 80
    return veil


def _png(pixels: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    shown: Any = Image.fromarray(pixels)
    shown.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
