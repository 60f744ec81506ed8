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
    """One formula, on its own line, which scrolls, where it was marked with two dollars."""
    latex = html.unescape(formula["latex"])
    if formula["tag"] == "div":
        return f'<div class="equation">{convert(latex, display="block")}</div>'
    return convert(latex, display="inline")
