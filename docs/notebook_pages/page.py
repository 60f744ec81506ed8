"""A notebook as a page of the site: Markdown with its outputs as the site shows things."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Any

SHOWN = ("image/svg+xml", "image/png", "text/html", "text/latex", "text/plain")
"""What a page shows of an output: the first of these that it has."""

BEFORE_SVG = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
SIZE = re.compile(r'(<svg\b[^>]*?) width="([\d.]+)pt"([^>]*?) height="[\d.]+pt"', re.DOTALL)
NAMES = re.compile(r'(\bid="|href="#|url\(#)')
BLACK, WHITE = re.compile(r"#000000\b"), re.compile(r"#ffffff\b")

NOTE = (
    "This page is a notebook, executed when the site was built. "
    "[Download it]({name}.ipynb) with its outputs, and run it with `pip install 'blockjac[app]'` "
    "and Jupyter."
)


def page(notebook: Any, name: str) -> str:
    """The page of an executed notebook.

    Args:
        notebook: with outputs; its first cell starts with the title.
        name: of the file that is offered for download, without its ending.

    Raises:
        ValueError: if the first cell has no title, or a picture no text that describes it.
    """
    first, *cells = notebook["cells"]
    title, _, text = first["source"].partition("\n")
    if first["cell_type"] != "markdown" or not title.startswith("# "):
        raise ValueError(f"{name}: the first cell should be text that begins with a title, '# ...'")
    parts = [title, NOTE.format(name=name), text.strip()]
    for number, cell in enumerate(cells, start=2):
        if cell["cell_type"] == "markdown":
            parts.append(cell["source"])
        else:
            parts.append(fenced(cell["source"], "python"))
            parts.extend(outputs(cell, f"{name}-{number}"))
    return "\n\n".join(parts) + "\n"


def outputs(cell: Any, name: str) -> Iterator[str]:
    """The outputs of a cell; what is printed in pieces is put together."""
    printed = ""
    for number, output in enumerate(cell["outputs"]):
        if output["output_type"] == "stream":
            printed += output["text"]
            continue
        if printed:
            yield fenced(printed, "text")
            printed = ""
        data = output["data"]
        kind = next((kind for kind in SHOWN if kind in data), None)
        if kind is not None:
            yield shown(kind, data[kind], cell["metadata"].get("alt"), f"{name}-{number}")
    if printed:
        yield fenced(printed, "text")


def shown(kind: str, data: str, described: str | None, name: str) -> str:
    """One output."""
    if kind.startswith("image/"):
        if described is None:
            raise ValueError(f'{name}: a picture needs a description: `# %% alt="..."`')
        picture = svg(data, name) if "svg" in kind else png(data)
        label = f'role="img" aria-label="{escape(described)}"'
        return f'<div class="output picture" {label}>{picture}</div>'
    if kind == "text/html":
        return f'<div class="output html">{data}</div>'
    if kind == "text/latex":
        return data
    return fenced(data, "text")


def svg(text: str, name: str) -> str:
    """A picture of matplotlib in the page itself, black and white as the page has them.

    Its names get a prefix, because several pictures share a page.
    """
    text = METADATA.sub("", BEFORE_SVG.sub("", text))
    text = SIZE.sub(r'\1 style="width: \2pt"\3', text, count=1)
    text = BLACK.sub("currentColor", WHITE.sub("var(--md-default-bg-color)", text))
    return NAMES.sub(lambda found: f"{found[1]}{name}-", text)


def png(data: str) -> str:
    """A picture of pixels."""
    return f'<img alt="" src="data:image/png;base64,{data.strip()}">'


def fenced(text: str, language: str) -> str:
    """Text between fences that it does not hold itself."""
    fence = "`" * max(3, *(len(own) + 1 for own in re.findall("`{3,}", text)), 3)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
