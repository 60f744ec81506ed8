"""Tables as aligned text."""

from __future__ import annotations

from collections.abc import Sequence


def in_a_cell(structures: Sequence[str]) -> str:
    """The structures of some edges in one cell: the first, and how many more there are."""
    if not structures:
        return "-"
    first = structures[0] if len(structures[0]) <= 32 else structures[0][:31] + "…"
    return first if len(structures) == 1 else f"{first} (+{len(structures) - 1})"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table, numbers to the right, under each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines: list[str] = []
    for row in rows:
        cells = [
            cell.rjust(width) if _is_number(cell, column, rows) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _is_number(cell: str, column: int, rows: Sequence[Sequence[str]]) -> bool:
    del cell
    body = [row[column] for row in rows[1:] if row[column]]
    return bool(body) and all(entry[0].isdigit() for entry in body)
