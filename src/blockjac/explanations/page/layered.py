"""A layered drawing of a graph without circles: layers by longest path, ordered by barycenters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 8
"""How often the layers are put in order, downwards and upwards in turn."""

MOST_BENDS = 4_000
"""Edges over several layers go around vertices; beyond this many bends the longest go straight."""

GAP, BEND = 26.0, 14.0
"""Between two vertices of a layer, and the width of a passing edge."""


@dataclass(frozen=True)
class Layout:
    """Where vertices and edges are drawn.

    Attributes:
        x: the middle of each vertex.
        layer: of each vertex, from the top.
        bends: for each edge the points (x, layer) between its ends.
        width: of the whole drawing.
        layers: how many there are.
    """

    x: tuple[float, ...]
    layer: tuple[int, ...]
    bends: tuple[tuple[tuple[float, int], ...], ...]
    width: float
    layers: int


def layered(widths: Sequence[float], edges: Sequence[tuple[int, int]]) -> Layout:
    """Lay out a graph whose vertices are numbered so that every edge goes upwards.

    Args:
        widths: of the vertices.
        edges: tail and head of each.
    """
    count = len(widths)
    layer = _layers(count, edges)
    sizes = list(widths)
    levels = list(layer)
    links: list[tuple[int, int]] = []
    passing: dict[int, list[int]] = {}
    room = MOST_BENDS
    for number in sorted(range(len(edges)), key=lambda n: layer[edges[n][1]] - layer[edges[n][0]]):
        tail, head = edges[number]
        between = range(layer[tail] + 1, layer[head])
        room -= len(between)
        if room < 0:
            continue
        own = list(range(len(sizes), len(sizes) + len(between)))
        passing[number] = own
        sizes += [BEND] * len(own)
        levels += list(between)
        path = [tail, *own, head]
        links += pairwise(path)
    above, below = _neighbors(len(sizes), links)
    rows = _rows(levels, above, below)
    x = _places(sizes, rows, above, below)
    left = min((x[v] - sizes[v] / 2 for v in range(len(sizes))), default=0.0)
    right = max((x[v] + sizes[v] / 2 for v in range(len(sizes))), default=0.0)
    bends = tuple(
        tuple((x[bend] - left, levels[bend]) for bend in passing.get(number, ()))
        for number in range(len(edges))
    )
    placed = tuple(x[vertex] - left for vertex in range(count))
    return Layout(placed, tuple(layer), bends, right - left, max(layer, default=-1) + 1)


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The longest path to each vertex; sources stand just above what first reads them."""
    leaving: list[list[int]] = [[] for _ in range(count)]
    has_tail = [False] * count
    for tail, head in edges:
        leaving[tail].append(head)
        has_tail[head] = True
    layer = [0] * count
    for vertex in range(count):
        for head in leaving[vertex]:
            layer[head] = max(layer[head], layer[vertex] + 1)
    for vertex in range(count):
        if not has_tail[vertex] and leaving[vertex]:
            layer[vertex] = min(layer[head] for head in leaving[vertex]) - 1
    return layer


def _neighbors(
    count: int, links: Sequence[tuple[int, int]]
) -> tuple[list[list[int]], list[list[int]]]:
    """The vertices above and below each."""
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    for tail, head in links:
        above[head].append(tail)
        below[tail].append(head)
    return above, below


def _rows(
    levels: Sequence[int], above: Sequence[Sequence[int]], below: Sequence[Sequence[int]]
) -> list[list[int]]:
    """The vertices of each layer from left to right: the sweep with the fewest crossings."""
    rows: list[list[int]] = [[] for _ in range(max(levels, default=-1) + 1)]
    for vertex, level in enumerate(levels):
        rows[level].append(vertex)
    best, least = [list(row) for row in rows], _crossings(rows, below)
    for sweep in range(SWEEPS):
        if not least:
            break
        is_down = sweep % 2 == 0
        neighbors = above if is_down else below
        for row in rows if is_down else reversed(rows):
            _sort_row(row, rows, levels, neighbors, -1 if is_down else 1)
        crossings = _crossings(rows, below)
        if crossings < least:
            best, least = [list(row) for row in rows], crossings
    return best


def _sort_row(
    row: list[int],
    rows: Sequence[Sequence[int]],
    levels: Sequence[int],
    neighbors: Sequence[Sequence[int]],
    step: int,
) -> None:
    """Put a layer in the order of the barycenters of its neighbors; others keep their places."""
    beside = levels[row[0]] + step
    if not 0 <= beside < len(rows):
        return
    place = {vertex: number for number, vertex in enumerate(rows[beside])}
    center: dict[int, float] = {}
    for number, vertex in enumerate(row):
        own = [place[neighbor] for neighbor in neighbors[vertex]]
        center[vertex] = sum(own) / len(own) if own else float(number)
    row.sort(key=center.__getitem__)


def _crossings(rows: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> int:
    """How many pairs of edges between neighboring layers cross."""
    total = 0
    for upper, lower in pairwise(rows):
        place = {vertex: number for number, vertex in enumerate(lower)}
        ends: list[int] = []
        for vertex in upper:
            ends += sorted(place[head] for head in below[vertex])
        counts = [0] * (len(lower) + 1)  # a tree of partial sums: how many ends lie to the left
        for number, end in enumerate(ends):
            at_most = 0
            index = end + 1
            while index:
                at_most += counts[index]
                index &= index - 1
            total += number - at_most
            index = end + 1
            while index <= len(lower):
                counts[index] += 1
                index += index & -index
    return total


def _places(
    sizes: Sequence[float],
    rows: Sequence[Sequence[int]],
    above: Sequence[Sequence[int]],
    below: Sequence[Sequence[int]],
) -> list[float]:
    """The middle of each vertex: near its neighbors, in the order of its layer, not too close."""
    x = [0.0] * len(sizes)
    for row in rows:
        offsets = _offsets(row, sizes)
        for vertex, offset in zip(row, offsets, strict=True):
            x[vertex] = offset - (offsets[-1] if offsets else 0.0) / 2
    for sweep in range(2 * SWEEPS):
        is_down = sweep % 2 == 0
        neighbors = above if is_down else below
        for row in rows if is_down else reversed(rows):
            wanted: list[float] = []
            for vertex in row:
                own = [x[neighbor] for neighbor in neighbors[vertex]]
                wanted.append(sum(own) / len(own) if own else x[vertex])
            for vertex, place in zip(row, _separated(row, wanted, sizes), strict=True):
                x[vertex] = place
    return x


def _offsets(row: Sequence[int], sizes: Sequence[float]) -> list[float]:
    """The middles of a layer's vertices when they stand as close as they may."""
    offsets: list[float] = []
    at = 0.0
    for number, vertex in enumerate(row):
        if number:
            at += sizes[row[number - 1]] / 2 + GAP + sizes[vertex] / 2
        offsets.append(at)
    return offsets


def _separated(row: Sequence[int], wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """The places nearest to those wanted, by least squares, that keep order and distance.

    What is left of a place when the least distances are taken off must not fall: neighbors that
    would are pooled, and all of a pool stand at their mean.
    """
    offsets = _offsets(row, sizes)
    pools: list[tuple[float, int]] = []
    for place, offset in zip(wanted, offsets, strict=True):
        total, count = place - offset, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            earlier, earlier_count = pools.pop()
            total, count = total + earlier, count + earlier_count
        pools.append((total, count))
    bases = [total / count for total, count in pools for _ in range(count)]
    return [base + offset for base, offset in zip(bases, offsets, strict=True)]
