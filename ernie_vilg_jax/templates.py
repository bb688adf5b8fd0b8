"""Pages and notes: jinja2 templates in `assets/templates`. In HTML, values are text, never markup."""

from functools import cache
from typing import Any

import jinja2

from ernie_vilg_jax.tables import ASSETS


def render(name: str, /, **values: Any) -> str:
    """A template with its values, in .html with characters of HTML escaped. A value that is missing is an error."""
    return _environment().get_template(name).render(**values)


def asset(name: str) -> str:
    """The text of a file of the page, such as its script, in `assets/app`."""
    return (ASSETS / "app" / name).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS / "templates"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
