"""Settings as the query of the page's address, and back: a link that opens the page with them."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

NAMES = {"num_images": "images", "negative_prompt": "without", "guidance_scale": "guidance"}
"""Fields that have a shorter name in a link."""


def query_of(values: Mapping[str, Any]) -> str:
    """The query of a link with these values; empty ones are left out."""
    told = {NAMES.get(name, name): value for name, value in values.items() if value not in (None, "", ())}
    return urlencode({name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()})


def values_of(query: Mapping[str, str], names: Mapping[str, type]) -> dict[str, Any]:
    """The values of a query: of the fields in `names`, as the type there. What does not fit is left out."""
    found: dict[str, Any] = {}
    for name, kind in names.items():
        text = query.get(NAMES.get(name, name))
        if text is None:
            continue
        try:
            found[name] = text if kind is str else kind(json.loads(text))
        except (ValueError, TypeError, OverflowError, RecursionError):
            continue
    return found
