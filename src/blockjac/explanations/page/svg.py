"""A step graph as SVG and for Graphviz."""

from __future__ import annotations

from html import escape

from blockjac.explanations.page.drawing import HEIGHT, Drawing
from blockjac.explanations.page.lines import label_places, path

STYLE = """
.bj { --bj-line: #6b7280; --bj-fill: #f6f7f9; --bj-mark: #1f5fa8; --bj-text: #1b1f24;
--bj-halo: #fff; font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif;
color: var(--bj-text); }
@media (prefers-color-scheme: dark) { .bj { --bj-line: #9aa3af; --bj-fill: #22272e;
--bj-mark: #7ab7ff; --bj-text: #e8eaed; --bj-halo: #15181c; } }
.bj text { fill: currentColor; text-anchor: middle; font-size: 14px; }
.bj .note, .bj .label { font-size: 12px; }
.bj .label { paint-order: stroke; stroke: var(--bj-halo); stroke-width: 4px;
stroke-linejoin: round; pointer-events: none; }
.bj rect { fill: var(--bj-fill); stroke: var(--bj-line); stroke-width: 1.3; }
.bj .argument rect { stroke: var(--bj-mark); stroke-width: 1.8; }
.bj .result rect { stroke-width: 3; }
.bj .folded rect { stroke-dasharray: 5 3; }
.bj .edge path { fill: none; stroke: var(--bj-line); stroke-width: 1.5; }
.bj .edge .hit { stroke: transparent; stroke-width: 14; }
.bj .arrow { fill: var(--bj-line); }
"""
"""Colors of the drawing, light and dark."""

ROOM = 56
"""Beside an interactive drawing, in pixels, for lines that an elimination adds."""

MOST_LABELS = 40
"""A drawing with more lines than this names their structure on request alone."""


def svg(drawing: Drawing, title: str, interactive: bool = False) -> str:
    """A drawing as an SVG of its own.

    Args:
        drawing: the boxes and lines.
        title: of the picture, for readers of screens.
        interactive: whether it is part of a page, whose script lets boxes and lines be chosen:
            then they have numbers, there is room beside them for new lines, and the style comes
            from the page.
    """
    room = ROOM if interactive else 0
    width, height = f"{drawing.width + 2 * room:.0f}", f"{drawing.height:.0f}"
    description = f"{len(drawing.boxes)} boxes and {len(drawing.lines)} lines, from arguments at "
    description += "the top to results at the bottom; each line is an elemental Jacobian"
    role = 'role="group" aria-labelledby="bj-title"' if interactive else 'role="img"'
    parts = [
        f'<svg class="bj" xmlns="http://www.w3.org/2000/svg" viewBox="{-room} 0 {width} {height}" '
        f'width="{width}" height="{height}" {role}>',
        f'<title id="bj-title">{escape(title)}</title><desc>{escape(description)}</desc>',
        "" if interactive else f"<style>{STYLE}</style>",
        '<defs><marker id="bj-arrow" viewBox="0 0 8 8" refX="3" refY="4" markerWidth="10" '
        'markerHeight="10" markerUnits="userSpaceOnUse" orient="auto">'
        '<path class="arrow" d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    for number, line in enumerate(drawing.lines):
        parts.append(
            f"<g {_attributes('edge', number, interactive)}>"
            f'<title>{escape(line.description)}</title><path d="{path(line.points)}" '
            'marker-end="url(#bj-arrow)"/></g>'
        )
    places = label_places(drawing) if len(drawing.lines) <= MOST_LABELS else []
    labels = [
        f'<text class="label" aria-hidden="true" data-label="{number}" x="{x:.0f}" '
        f'y="{y + 4:.0f}">{escape(line.text)}</text>'
        for number, (line, (x, y)) in enumerate(zip(drawing.lines, places, strict=False))
    ]
    for number, box in enumerate(drawing.boxes):
        left, top = box.x - box.width / 2, box.y - HEIGHT / 2
        parts.append(
            f"<g {_attributes(f'vertex {box.kind}', number, interactive)}>"
            f"<title>{escape(box.description)}</title>"
            f'<rect x="{left:.0f}" y="{top:.0f}" width="{box.width:.0f}" height="{HEIGHT:.0f}" '
            f'rx="{20 if box.kind == "argument" else 6}"/>'
            f'<text x="{box.x:.0f}" y="{box.y - 3:.0f}">{escape(box.title)}</text>'
            f'<text class="note" x="{box.x:.0f}" y="{box.y + 14:.0f}">{escape(box.note)}</text></g>'
        )
    return "".join([*parts, *labels, "</svg>"])


def _attributes(kind: str, number: int, interactive: bool) -> str:
    """The attributes of a box or line."""
    name = f' id="{kind.partition(" ")[0]}-{number}"' if interactive else ""
    return f'class="{kind}"{name}'


def dot(drawing: Drawing, title: str) -> str:
    """A drawing as text for Graphviz, which lays it out anew."""
    shapes = {"argument": "oval", "computed": "box", "result": "box", "folded": "box"}
    rows = [
        f"digraph {_quoted(title)} {{",
        "  rankdir=TB; node [fontname=sans]; edge [fontname=sans, fontsize=10];",
    ]
    for number, box in enumerate(drawing.boxes):
        label = _quoted(f"{box.title}\n{box.note}")
        extra = {"result": ", peripheries=2", "folded": ", style=dashed"}.get(box.kind, "")
        rows.append(f"  v{number} [label={label}, shape={shapes[box.kind]}{extra}];")
    for line in drawing.lines:
        tip = _quoted(line.description)
        rows.append(f"  v{line.tail} -> v{line.head} [label={_quoted(line.text)}, tooltip={tip}];")
    return "\n".join([*rows, "}"]) + "\n"


def _quoted(text: str) -> str:
    """A string of Graphviz; line ends are its own."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
