"""Pages of the web app in a browser."""

from importlib.util import find_spec
from typing import Any

import pytest

NEEDS_GRADIO = pytest.mark.skipif(find_spec("gradio") is None, reason="the page needs the extra `demo`")
"""Not `importorskip`, which takes seconds in each worker."""


def watched(tab: Any, address: str) -> list[str]:
    """Opens the page in a tab, and waits until images can be asked for.

    Returns what must stay empty: the page's errors, and its requests to other servers.
    """
    problems: list[str] = []
    tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: problems.append(str(error)))
    own = (address, "data:", "blob:")
    tab.on("request", lambda request: None if request.url.startswith(own) else problems.append(request.url))
    tab.goto(address)
    tab.wait_for_selector("#generate")
    return problems
