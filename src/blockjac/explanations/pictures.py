"""The graph of an explanation as a picture of matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blockjac.base.figures import new_figure, title_lines
from blockjac.explanations.page.drawing import HEIGHT, Drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCH = 96.0
"""Pixels of a drawing to an inch of a figure."""

MOST_LABELS = 40
"""A drawing with more lines than this is drawn without their structures."""

EDGES = {"argument": "#1f5fa8", "result": "#1b1f24", "folded": "#6b7280", "computed": "#6b7280"}


def draw_graph(drawing: Drawing, title: str) -> Figure:
    """Draw the steps as boxes and their elemental Jacobians as arrows.

    Args:
        drawing: where they are.
        title: of the picture.

    Returns:
        A figure of matplotlib, which pyplot knows nothing of.

    Raises:
        MissingExtraError: without matplotlib.
    """
    size = max(drawing.width / INCH, 3.0), max(drawing.height / INCH, 1.5) + 0.5
    figure = new_figure(*size, "plot()", "svg()")
    from matplotlib.patches import FancyBboxPatch

    axes = figure.add_subplot()
    axes.set_title(title_lines(title, size[0]), fontsize=11)
    axes.set_xlim(0, drawing.width)
    axes.set_ylim(drawing.height, 0)
    axes.set_aspect("equal")
    axes.set_axis_off()
    for line in drawing.lines:
        xs, ys = zip(*line.points, strict=True)
        axes.plot(xs, ys, color="#6b7280", linewidth=1.1, zorder=1)
        head = {"arrowstyle": "-|>", "color": "#6b7280", "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", xy=line.points[-1], xytext=line.points[-2], arrowprops=head, zorder=1)
        if len(drawing.lines) <= MOST_LABELS:
            middle = len(line.points) // 2
            (x0, y0), (x1, y1) = line.points[middle - 1], line.points[middle]
            halo = {"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85}
            place: dict[str, Any] = {
                "ha": "center",
                "va": "center",
                "fontsize": 8,
                "bbox": halo,
                "zorder": 2,
            }
            axes.text((x0 + x1) / 2, (y0 + y1) / 2, line.text, **place)
    for box in drawing.boxes:
        corner = box.x - box.width / 2, box.y - HEIGHT / 2
        look: dict[str, Any] = {
            "linestyle": "--" if box.kind == "folded" else "-",
            "linewidth": 2.0 if box.kind == "result" else 1.2,
            "edgecolor": EDGES[box.kind],
            "facecolor": "#f6f7f9",
            "zorder": 3,
        }
        round_ = "round,pad=0,rounding_size=8"
        shape = FancyBboxPatch(corner, box.width, HEIGHT, round_, **look)
        axes.add_patch(shape)
        axes.text(box.x, box.y - 8, box.title, ha="center", va="center", fontsize=10, zorder=4)
        note: dict[str, Any] = {
            "color": "#444444",
            "ha": "center",
            "va": "center",
            "fontsize": 8,
            "zorder": 4,
        }
        axes.text(box.x, box.y + 11, box.note, **note)
    return figure
