"""Where the boxes and lines of a step graph stand, whatever they are drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockjac.explanations.page.layered import layered
from blockjac.explanations.page.step_graph import StepGraph, Vertex
from blockjac.explanations.styles.text import TEXT

HEIGHT, PITCH, MARGIN = 46.0, 104.0, 14.0
"""Of a box, between layers, around the drawing; in pixels."""

LETTER, PADDING, LONGEST = 7.6, 26.0, 26
"""The width of a letter, beside a text, and the letters that a box shows at most."""


@dataclass(frozen=True)
class Box:
    """A vertex, or a folded chain of several.

    Attributes:
        vertices: positions in the graph.
        title: the first line.
        note: the second line.
        description: in full, for readers of screens.
        kind: "argument", "computed", "result" or "folded".
        x: of the middle.
        y: of the middle.
        width: in pixels.
    """

    vertices: tuple[int, ...]
    title: str
    note: str
    description: str
    kind: str
    x: float
    y: float
    width: float


@dataclass(frozen=True)
class Line:
    """The edges between two boxes.

    Attributes:
        edges: positions in the graph.
        tail: position of the box.
        head: position of the box.
        points: where it goes, from box to box.
        text: the structure in a word.
        description: in full.
    """

    edges: tuple[int, ...]
    tail: int
    head: int
    points: tuple[tuple[float, float], ...]
    text: str
    description: str


@dataclass(frozen=True)
class Drawing:
    """A drawing of a graph.

    Attributes:
        boxes: in the order of the graph.
        lines: likewise.
        width: in pixels.
        height: in pixels.
    """

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    width: float
    height: float


def shortened(text: str, most: int = LONGEST) -> str:
    """A text with its end left out where it is long."""
    return text if len(text) <= most else text[: most - 1] + "…"


def drawing(graph: StepGraph, words: Sequence[str]) -> Drawing:
    """Lay a graph out.

    Args:
        graph: the graph of the steps.
        words: the structure of each edge.
    """
    groups = graph.groups
    group_of = {vertex: n for n, group in enumerate(groups) for vertex in group}
    between: dict[tuple[int, int], list[int]] = {}
    for number, edge in enumerate(graph.edges):
        pair = group_of[edge.tail], group_of[edge.head]
        if pair[0] != pair[1]:
            between.setdefault(pair, []).append(number)
    texts = [_texts(graph, group) for group in groups]
    widths = [
        max(len(title) * 1.1, len(note) * 0.86) * LETTER + PADDING for title, note, _, _ in texts
    ]
    layout = layered(widths, list(between))
    middle = [MARGIN + HEIGHT / 2 + PITCH * layer for layer in layout.layer]
    boxes = tuple(
        Box(tuple(group), *own, layout.x[n] + MARGIN, middle[n], widths[n])
        for n, (group, own) in enumerate(zip(groups, texts, strict=True))
    )
    inner = [
        [(x + MARGIN, MARGIN + HEIGHT / 2 + PITCH * layer) for x, layer in bends]
        for bends in layout.bends
    ]
    ports = _ports(boxes, list(between), inner)
    lines = tuple(
        _line(graph, boxes, pair, own, [ports[n][0], *inner[n], ports[n][1]], words)
        for n, (pair, own) in enumerate(between.items())
    )
    height = 2 * MARGIN + HEIGHT + PITCH * max(layout.layers - 1, 0)
    return Drawing(boxes, lines, layout.width + 2 * MARGIN, height)


def _line(
    graph: StepGraph,
    boxes: Sequence[Box],
    pair: tuple[int, int],
    edges: Sequence[int],
    points: Sequence[tuple[float, float]],
    words: Sequence[str],
) -> Line:
    """The line of the edges between two boxes."""
    names = ", ".join(TEXT.derivative(graph.edges[n].derivative) for n in edges)
    own = list(dict.fromkeys(words[n] for n in edges))
    tail, head = boxes[pair[0]], boxes[pair[1]]
    return Line(
        tuple(edges),
        *pair,
        tuple(points),
        own[0] if len(own) == 1 else f"{len(edges)} edges",
        f"elemental Jacobian {names}: {', '.join(own)}; from {tail.title} to {head.title}",
    )


def _texts(graph: StepGraph, group: Sequence[int]) -> tuple[str, str, str, str]:
    """Title, note, description and kind of a box."""
    first, last = graph.vertices[group[0]], graph.vertices[group[-1]]
    if len(group) > 1:
        ends = f"{TEXT.name(first.variable.name)} … {TEXT.name(last.variable.name)}"
        words = dict.fromkeys(
            vertex.step.word for vertex in map(graph.vertices.__getitem__, group) if vertex.step
        )
        note = shortened(", ".join(words), 20)
        title = f"{len(group)} {'steps' if last.step else 'arguments'}"
        description = f"{title}, folded: {ends}; {', '.join(list(words)[:8])}"
        return title, note or shortened(ends, 20), description, "folded"
    name = TEXT.name(first.variable.name)
    sizes = "×".join(map(str, first.variable.shape)) or "a number"
    if first.step is None:
        kind = "result" if first.is_result else "argument"
        return shortened(name), sizes, f"argument {name}, {_space(first)}", kind
    step = TEXT.name(first.step.name)
    kind = "result" if first.is_result else "computed"
    title = shortened(f"{name} = {step}")
    description = f"{kind} {name}, by {step}, {_space(first)}"
    return title, sizes, description, kind


def _space(vertex: Vertex) -> str:
    """The shape in words."""
    sizes = " by ".join(map(str, vertex.variable.shape))
    return f"shape {sizes}" if sizes else "a single number"


def _ports(
    boxes: Sequence[Box],
    pairs: Sequence[tuple[int, int]],
    inner: Sequence[Sequence[tuple[float, float]]],
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Where each line leaves its tail and enters its head: side by side, so none cross there."""
    leaving: dict[int, list[int]] = {}
    entering: dict[int, list[int]] = {}
    for number, (tail, head) in enumerate(pairs):
        leaving.setdefault(tail, []).append(number)
        entering.setdefault(head, []).append(number)
    starts: dict[int, tuple[float, float]] = {}
    ends: dict[int, tuple[float, float]] = {}
    for tail, own in leaving.items():
        own.sort(key=lambda n: inner[n][0][0] if inner[n] else boxes[pairs[n][1]].x)
        for place, number in enumerate(own):
            box = boxes[tail]
            starts[number] = box.x + _port(place, len(own), box.width), box.y + HEIGHT / 2
    for head, own in entering.items():
        own.sort(key=lambda n: inner[n][-1][0] if inner[n] else boxes[pairs[n][0]].x)
        for place, number in enumerate(own):
            box = boxes[head]
            ends[number] = box.x + _port(place, len(own), box.width), box.y - HEIGHT / 2 - 5
    return [(starts[number], ends[number]) for number in range(len(pairs))]


def _port(place: int, count: int, width: float) -> float:
    """How far from the middle of a box a line ends."""
    return (place - (count - 1) / 2) * min(26.0, 0.8 * width / count)
