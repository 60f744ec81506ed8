"""How the unknowns of a system fall into independent groups.

Two variables meet if a block between them is not zero. Variables that do not meet, even through
others, are solved separately. If every block between variables that meet has a delta along an axis
of each, these axes number independent systems, which are solved as one batch of small ones. In a
diagonal matrix these are systems with one unknown, which are divisions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from blockjac.base.arrays import Shape
from blockjac.terms.block import Block, delta_pairs

Rows = Sequence[Sequence[Block]]
Family = dict[int, int]
"""The axis of each variable of a group that numbers the systems."""


def groups(rows: Rows) -> list[list[int]]:
    """The numbers of the variables, grouped by which of them meet.

    Examples:
        >>> unit, zero = Block.identity(2), Block.zeros(2, 2)
        >>> groups([[unit, zero, unit], [zero, unit, zero], [zero, zero, unit]])
        [[0, 2], [1]]
    """
    remaining = set(range(len(rows)))
    result: list[list[int]] = []
    while remaining:
        group: set[int] = set()
        new = {min(remaining)}
        while new:
            group |= new
            new = {
                j
                for j in remaining - group
                if any(not (rows[i][j].is_zero and rows[j][i].is_zero) for i in new)
            }
        remaining -= group
        result.append(sorted(group))
    return result


def families(rows: Rows, group: Sequence[int]) -> list[Family]:
    """The axes that number independent systems among variables that meet.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> weights, bias = jnp.ones((3, 4)), jnp.ones(4)
        >>> loss = lambda p: jnp.sum((jnp.ones((5, 3)) @ p[0] + p[1]) ** 2)
        >>> families(blockjac.block_hessian(loss)((weights, bias)).rows, [0, 1])
        [{0: 1, 1: 0}]
    """
    pairs = {
        (i, j): delta_pairs(rows[i][j]) for i in group for j in group if not rows[i][j].is_zero
    }
    first = group[0]
    if any((variable, variable) not in pairs for variable in group):
        return []  # a variable without a diagonal block couples different axes
    families = [_family(first, axis, pairs) for axis in range(len(rows[first][first].out_shape))]
    return [family for family in families if family is not None]


def _family(
    first: int, axis: int, pairs: dict[tuple[int, int], list[tuple[int, int]]]
) -> Family | None:
    """The axes that deltas join to an axis of the first variable; None if a block lacks one."""
    family, new = {first: axis}, [first]
    while new:
        variable = new.pop()
        for (i, j), deltas in pairs.items():
            if variable not in (i, j):
                continue
            neighbor = j if variable == i else i
            partners = dict(deltas) if variable == i else {b: a for a, b in deltas}
            partner = partners.get(family[variable])
            if partner is None:
                return None
            if neighbor not in family:
                family[neighbor] = partner
                new.append(neighbor)
            elif family[neighbor] != partner:
                return None
    return family


def grid_of(matrix: jax.Array, shapes: Sequence[Shape]) -> Rows:
    """A dense matrix as blocks of variables of these shapes."""
    ends = list(itertools.accumulate(map(math.prod, shapes)))
    return [
        [
            Block.from_dense(jnp.reshape(part, (*out, *wrt)), len(out))
            for wrt, part in zip(shapes, jnp.split(row, ends[:-1], axis=1), strict=True)
        ]
        for out, row in zip(shapes, jnp.split(matrix, ends[:-1], axis=0), strict=True)
    ]
