"""How the lines of a drawing run between their points, and where their labels stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blockjac.explanations.page.drawing import HEIGHT, Drawing, Line

Point = tuple[float, float]

SHARES = (0.5, 0.38, 0.62, 0.28, 0.72)
"""How far along a part of a line its label may stand, the best first."""

LABEL_LETTER, LABEL_HEIGHT = 6.9, 15.0
"""The size of a letter of a label, in pixels."""


def path(points: Sequence[Point]) -> str:
    """A smooth line through points, as the path of an SVG."""
    (x, y), *rest = points
    written = [f"M{x:.0f} {y:.0f}"]
    for end_x, end_y in rest:
        half = (end_y - y) / 2
        written.append(
            f"C{x:.0f} {y + half:.0f} {end_x:.0f} {end_y - half:.0f} {end_x:.0f} {end_y:.0f}"
        )
        x, y = end_x, end_y
    return "".join(written)


def along(start: Point, end: Point, share: float) -> Point:
    """A point of a smooth line between two points, as `path` draws it."""
    left = 1 - share
    height = end[1] - start[1]
    weight = share * share * (3 - 2 * share)
    y = 1.5 * left * left * share + 1.5 * left * share * share + share**3
    return start[0] + weight * (end[0] - start[0]), start[1] + y * height


def label_places(drawing: Drawing) -> list[Point]:
    """The middle of each line's label: on the line, beside boxes and other labels where it can be.

    Args:
        drawing: with lines.
    """
    taken = [(box.x, box.y, box.width / 2, HEIGHT / 2) for box in drawing.boxes]
    places: list[Point] = []
    for line in drawing.lines:
        half = len(line.text) * LABEL_LETTER / 2
        candidates = list(_candidates(line))
        crowded = [sum(_overlap(place, half, other) for other in taken) for place in candidates]
        place = candidates[crowded.index(min(crowded))]
        places.append(place)
        taken.append((*place, half, LABEL_HEIGHT / 2))
    return places


def _candidates(line: Line) -> Iterator[Point]:
    """Where a label may stand: the last part of its line first, for lines often leave together."""
    parts = list(zip(line.points, line.points[1:], strict=False))[::-1]
    for start, end in parts:
        for share in SHARES:
            yield along(start, end, share)


def _overlap(place: Point, half: float, other: tuple[float, float, float, float]) -> float:
    """The area that a label has in common with a box or another label."""
    x, y, half_width, half_height = other
    across = half + half_width + 3 - abs(place[0] - x)
    down = LABEL_HEIGHT / 2 + half_height - abs(place[1] - y)
    return max(across, 0.0) * max(down, 0.0)
