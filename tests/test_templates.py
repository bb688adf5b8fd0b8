"""Values in a page are text, whatever the template; a value that a template lacks is an error."""

import re

import jinja2
import pytest
from jinja2 import meta, nodes

from ernie_vilg_jax.tables import ASSETS
from ernie_vilg_jax.templates import render

TEMPLATES = sorted(path.name for path in (ASSETS / "templates").iterdir())


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_template_marks_values_as_markup(name: str):
    tree = jinja2.Environment().parse((ASSETS / "templates" / name).read_text(encoding="utf-8"))
    assert not {found.name for found in tree.find_all(nodes.Filter)} & {"safe", "tojson", "xmlattr"}
    assert not list(tree.find_all(nodes.ScopedEvalContextModifier)), "autoescape is switched in it"
    assert meta.find_undeclared_variables(tree)


def test_values_are_escaped():
    html = render("progress.html", step=1, steps=2, timeline=[], text="<script>'\"&")
    assert re.fullmatch(r"<progress value=1 max=2></progress>\s*&lt;script&gt;&#39;&#34;&amp;", html)


def test_a_missing_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="'steps' is undefined"):
        render("progress.html", step=1, timeline=[], text="")
