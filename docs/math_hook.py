"""Formulas as MathML when the site is built, so that its pages need no script to show them."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>', re.S
)


def on_page_content(page_html: str, **_: Any) -> str:
    """Replace what arithmatex marked as a formula; MkDocs calls this for each page."""
    return FORMULA.sub(mathml, page_html)


def mathml(formula: re.Match[str]) -> str:
    """One formula, on its own line where it was marked with two dollars."""
    display = "block" if formula["tag"] == "div" else "inline"
    return convert(html.unescape(formula["latex"]), display=display)
