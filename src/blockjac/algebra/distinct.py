"""Whether entries of terms can share a position."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from blockjac.algebra.backend import planning
from blockjac.algebra.entries import Grid
from blockjac.algebra.index_equations import Contradiction, IndexEquations
from blockjac.algebra.index_solution import solve
from blockjac.terms.block import Block
from blockjac.terms.index import Label
from blockjac.terms.term import Term


def are_distinct(grid: Grid) -> bool:
    """Whether the structure makes certain that no two entries of a block share a position."""
    return all(
        all(is_determined(term) for term in block.terms)
        and all(
            are_disjoint(first, second, block)
            for first, second in itertools.combinations(block.terms, 2)
        )
        for row in grid
        for block in row
    )


def is_determined(term: Term) -> bool:
    """Whether the position of an entry determines each label, so that no position occurs twice."""
    known: set[Label] = set()
    waiting = [index for index in term.indices if index.labels]
    progress = True
    while progress and waiting:
        progress = False
        for index in list(waiting):
            if index.lookup is not None and not set(index.lookup.labels) <= known:
                continue
            unknown = [(abs(step), label) for label, step in index.strides if label not in known]
            if _is_readable(unknown):
                known.update(label for _, label in unknown)
                waiting.remove(index)
                progress = True
    return set(term.labels) <= known


def _is_readable(steps: Sequence[tuple[int, Label]]) -> bool:
    """Whether `sum step * label` determines all labels: each step exceeds what the lower reach."""
    reach = 0
    for step, label in sorted(steps, key=lambda pair: pair[0]):
        if step <= reach:
            return False
        reach += step * (label.size - 1)
    return True


def are_disjoint(first: Term, second: Term, block: Block) -> bool:
    """Whether two terms certainly share no position: their indices cannot agree."""
    second = second.relabelled()
    equations = [
        (left, right, size)
        for left, right, size in zip(first.indices, second.indices, block.shape, strict=True)
        if left.lookup is None and right.lookup is None
    ]
    try:
        with planning():
            solve(IndexEquations([], [], (), [*first.labels, *second.labels], 1), equations)
    except Contradiction:
        return True
    return False
