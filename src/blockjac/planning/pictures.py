"""Pictures of a plan: what each order costs, and what each elimination adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from blockjac.base.figures import new_figure, title_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure


LABELLED = 0.1
"""A step is named in the picture if it takes at least this share of all."""


def draw_plan(title: str, costs: Mapping[str, int], steps: Sequence[tuple[str, int]]) -> Figure:
    """Draw the costs of orders as bars, and beside them how those of one plan add up.

    Args:
        title: of the picture.
        costs: multiplications by the name of the order; those of the plan itself are darker.
        steps: the eliminations of the plan, each with its multiplications.

    Returns:
        A figure of matplotlib, which pyplot knows nothing of.

    Raises:
        MissingExtraError: without matplotlib.
    """
    figure = new_figure(10, 1.6 + 0.35 * max(len(costs), 4), "plot()", "print(plan)")
    figure.suptitle(title_lines(title, figure.get_figwidth()), fontsize=11)
    left, right = figure.subplots(1, 2)
    names = list(costs)[::-1]
    colours = ["#3b6fb6" if name.startswith("this plan") else "#9db8da" for name in names]
    bars = left.barh(names, [costs[name] for name in names], color=colours)
    left.bar_label(bars, [f"{costs[name]:,}" for name in names], padding=3, fontsize=8)
    left.set_xscale("symlog", linthresh=1)
    left.set_xlim(0, max([*costs.values(), 1]) * 300)
    left.set_xlabel("multiplications")
    left.tick_params(axis="y", labelsize=8)
    totals = list(accumulate((cost for _, cost in steps), initial=0))
    right.step(range(len(totals)), totals, where="pre", color="#3b6fb6")
    right.set_xlabel("vertices eliminated")
    right.set_ylabel("multiplications so far")
    dearest = sorted(range(len(steps)), key=lambda position: -steps[position][1])[:3]
    for position in dearest:
        label, cost = steps[position]
        if cost >= LABELLED * totals[-1] > 0:
            at = (position + 1, totals[position + 1])
            place = {"xytext": (-4, 4), "textcoords": "offset points", "ha": "right"}
            right.annotate(label, at, fontsize=8, **place)
    right.margins(y=0.15)
    right.grid(alpha=0.3)
    return figure
