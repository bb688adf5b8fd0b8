"""A page of training examples, as the loader draws them from records for a model.

Each example: the cropped image, overlaid with salient objects and the loss weights; its caption with the key words
coloured by part of speech; its tokens, including special tokens, with their attention weights.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ernie_vilg_jax.data.examples import Drawn, ExampleMaker
from ernie_vilg_jax.templates import render

PARTS = {"n": "noun", "v": "verb", "a": "adjective", "m": "numeral", "q": "measure word", "r": "pronoun"}


def page(maker: ExampleMaker, drawn: Sequence[Drawn], *, title: str, notes: Sequence[str] = ()) -> str:
    """The HTML of examples that `maker` drew; one self-contained file.

    Args:
      maker: converts each to the arrays of training, which the page shows.
      drawn: the examples, in the order of the page.
      title, notes: text above them.
    """
    return render(
        "inspect_page.html",
        title=title,
        notes=notes,
        parts=PARTS,
        counts=Counter(word.pos for example in drawn for word in example.words),
        boxes=sum(len(example.boxes) for example in drawn),
        cards=[_card(maker, example) for example in drawn],
    )


def _card(maker: ExampleMaker, drawn: Drawn) -> dict[str, Any]:
    arrays = maker.arrays(drawn)
    weights = arrays["loss_weight"]
    strongest = float(weights.max())
    shown = {tuple(map(float, box)): name for box, name in zip(drawn.boxes, drawn.names, strict=True)}
    return {
        "index": drawn.index,
        "id": drawn.record.id,
        "image": _png(arrays["image"]),
        "veil": _png(_veil(weights)),
        "boxes": [[f"{value:.4f}" for value in (x0, y0, x1 - x0, y1 - y0)] for x0, y0, x1, y1 in shown],
        "names": [
            (f"{100 * min(max(x0, 0), 0.9):.1f}", f"{100 * min(max(y0, 0), 0.94):.1f}", name)
            for (x0, y0, *_), name in shown.items()
        ],
        "caption": _caption(drawn),
        "tokens": list(_tokens(maker, arrays)),
        "facts": [
            *([f"loss up to ×{strongest:.3g}"] if strongest > 1 else []),
            f"{drawn.record.source}, {drawn.record.licence or 'licence unknown'}, record {drawn.index}",
        ],
    }


def _caption(drawn: Drawn) -> list[tuple[str, str]]:
    """The caption in pieces, each with its part of speech, or ""."""
    pieces, end = [], 0
    for word in drawn.words:
        pieces += [(drawn.text[end : word.start], ""), (drawn.text[word.start : word.end], word.pos)]
        end = word.end
    return [piece for piece in [*pieces, (drawn.text[end:], "")] if piece[0]]


def _tokens(maker: ExampleMaker, arrays: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    symbols = {number: pos for pos, number in maker.tokenizer.symbol_ids.items()}
    ids = arrays["tokens"][arrays["token_mask"]].tolist()
    weights = arrays["token_weight"][arrays["token_mask"]].tolist()
    for place, (number, weight) in enumerate(zip(ids, weights, strict=True)):
        if place in (0, len(ids) - 1):
            yield {"kind": "faint", "text": "begin" if place == 0 else "end", "weight": 1}
        elif number in symbols:
            yield {"kind": f"symbol {symbols[number]}", "text": f"[{symbols[number]}]", "weight": 1}
        else:
            yield {"kind": "", "text": maker.tokenizer.decode([number]) or "␣", "weight": weight}


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
