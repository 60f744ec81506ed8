"""The page of an explanation: one file with its style, its script and its data."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib import resources

from blockjac.explanations.document import MOST_SHOWN
from blockjac.explanations.html import sections
from blockjac.explanations.page.parts import PageParts
from blockjac.explanations.page.stages import stage_section, stages_of
from blockjac.explanations.page.svg import STYLE, dot, svg

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""What the page may load: nothing."""

CONTROLS = """<section aria-labelledby="elimination">
<h2 id="elimination">The graph, and its elimination</h2>
<p class="hint">Vertices are tensors, each line is an elemental Jacobian. To eliminate a vertex is
to contract every line that leaves it with every line that enters it; when all between arguments
and results are eliminated, the lines left are the Jacobian. Every order gives the same, at its own
cost. Choose a vertex or line to see its formula and its numbers.</p>
<div class="controls" role="group" aria-label="Elimination">
<label for="order">Order <select id="order">
<option value="reverse">reverse (backpropagation)</option><option value="forward">forward</option>
<option value="cheapest">cheapest vertex next</option>
<option value="own">your own: choose vertices</option></select></label>
<button id="start" type="button">Start</button><button id="back" type="button">Back</button>
<button id="next" type="button">Next</button><button id="play" type="button">Play</button>
<label for="slider">Step <input id="slider" type="range" min="0" max="1" value="0"></label>
</div>
<output id="status" aria-live="polite"></output>
"""

TOTALS = """<h3 id="costs">Multiplications</h3>
<div class="wide"><table id="totals" aria-labelledby="costs">
<thead><tr><th scope="col">order</th><th scope="col" class="number">so far</th>
<th scope="col" class="number">in all</th><th scope="col">compared</th></tr></thead><tbody></tbody>
</table></div>
"""

ABOUT = """<p class="soft">Counted on the structure of the blocks: what is known to be zero, a delta
or a constant is not multiplied. The counts are those of eliminating whole steps, the Jacobian
written out at the end; the section on the order below eliminates between primitives. They follow
the library's own rules; where places are looked up in arrays, they can differ a little from what
the library needs.</p>
"""


@cache
def asset(name: str) -> str:
    """A file beside this one: style or script."""
    return resources.files("blockjac.explanations.page").joinpath("assets", name).read_text("utf-8")


def page_of(parts: PageParts, most: int | None = MOST_SHOWN, after: str = "") -> str:
    """The whole file.

    Args:
        parts: of the explanation.
        most: how many lines a section has, and how many steps are shown with formulas; None for
            all.
        after: HTML put before the sections.
    """
    document = parts.document(most)
    has_graph = bool(parts.graph.vertices)
    body = _graph(parts) if has_graph else "<p>The result does not depend on the arguments.</p>\n"
    code = asset("costs.js") + asset("page.js")
    script = f"<script>\nconst DATA = {parts.data(most)};\n{code}</script>\n" if has_graph else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(parts.title)}</title>\n<style>{STYLE}{asset('page.css')}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(parts.title)}</h1>\n{body}{after}"
        f"{stage_section(stages_of(parts.graph))}{sections(document)}</main>\n{script}</body>\n</html>\n"
    )


def _graph(parts: PageParts) -> str:
    """The graph with its controls and the panel beside it."""
    graph = parts.graph
    drawn = svg(parts.drawing, parts.title, interactive=True)
    folded = len(graph.vertices) - len(graph.groups)
    lead = f"{len(graph.vertices):,} vertices, {len(graph.edges):,} elemental Jacobians"
    if folded:
        lead += f"; drawn in {len(graph.groups):,} boxes, steps that follow one another are folded"
    return (
        f'<p class="soft">{lead}.</p>\n{CONTROLS}'
        f'<div class="board">\n<div class="pane">{drawn}</div>\n'
        '<div class="panel" id="panel" role="region" aria-label="What is chosen" '
        f'aria-live="polite"></div>\n</div>\n{TOTALS}{ABOUT}'
        '<div class="all" id="all"></div>\n</section>\n'
    )


def dot_of(parts: PageParts) -> str:
    """The graph for Graphviz."""
    return dot(parts.drawing, parts.title)


def svg_of(parts: PageParts) -> str:
    """The graph as a picture of its own."""
    return svg(parts.drawing, parts.title)
