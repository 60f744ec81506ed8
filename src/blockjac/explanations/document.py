"""What an explanation says, section by section, whatever it is written as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockjac.devices import in_bytes
from blockjac.explanations.layout import Equation
from blockjac.planning import Plan

MOST_SHOWN = 40
"""A section of more equations than this is folded: the rest is counted."""


@dataclass(frozen=True)
class Line:
    """An equation with a remark, or a sentence.

    Attributes:
        equation: None for a sentence.
        remark: beside the equation, or the sentence.
        depth: how far it is indented: definitions belong to the equation before.
    """

    equation: Equation | None = None
    remark: str = ""
    depth: int = 0


@dataclass(frozen=True)
class Table:
    """Rows of cells, the first of them the heads of the columns."""

    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A part of an explanation.

    Attributes:
        title: its heading.
        items: lines and tables.
    """

    title: str
    items: tuple[Line | Table, ...]


@dataclass(frozen=True)
class Document:
    """A whole explanation.

    Attributes:
        title: of the whole.
        sections: in order.
    """

    title: str
    sections: tuple[Section, ...]


def folded(items: Sequence[Line], what: str, most: int | None = MOST_SHOWN) -> tuple[Line, ...]:
    """The first of many lines, and how many more there are.

    Args:
        items: all lines.
        what: they are, in the plural.
        most: how many are shown; None for all.
    """
    if most is None or len(items) <= most:
        return tuple(items)
    left = len(items) - most
    note = f"… and {left:,} more {what}, folded here; most=None shows all"
    return (*items[:most], Line(remark=note))


def order_items(plan: Plan) -> tuple[Line | Table, ...]:
    """The order of elimination with its costs, and what others would cost.

    Args:
        plan: of the Jacobian.
    """
    compared = [("order", "multiplications", "additions", "moved", "predicted")]
    for name, figures in plan.comparison.items():
        compared.append(
            (
                name,
                f"{figures.multiplications + figures.operator_operations:,}",
                f"{figures.additions:,}",
                in_bytes(figures.bytes),
                f"{figures.seconds * 1e6:,.1f} us",
            )
        )
    steps = [("eliminated", "computed by", "multiplications", "additions", "line")]
    for step in plan.steps[:MOST_SHOWN]:
        operations = step.multiplications + step.operator_operations
        steps.append(
            (
                str(step.vertex),
                step.primitive,
                f"{operations:,}",
                f"{step.additions:,}",
                step.source.rpartition("/")[2],
            )
        )
    items: list[Line | Table] = [Table(tuple(compared))]
    if plan.steps:
        items += [
            Line(remark="vertex by vertex, in the order of elimination:"),
            Table(tuple(steps)),
        ]
    if len(plan.steps) > MOST_SHOWN:
        items.append(Line(remark=f"… and {len(plan.steps) - MOST_SHOWN:,} more vertices"))
    return tuple(items)
