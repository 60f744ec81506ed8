"""Solving systems whose unknowns fall into groups that do not meet.

Two variables meet if a block between them is not zero. Variables that do not meet, not even by way
of others, are solved separately. If every block between those that meet has a delta along an axis
of each, this axis numbers independent systems, which are solved as one batch of small ones. In a
diagonal matrix these are systems with one unknown, which are divisions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp

from blockjac.algebra import arrays
from blockjac.algebra.dense import check_size
from blockjac.algebra.in_one import in_one
from blockjac.terms.block import Block, delta_pairs

Rows = Sequence[Sequence[Block]]
Family = dict[int, int]
"""For each variable of a group the axis that numbers the systems."""


@jax.jit
def solved(rows: Rows, right: Sequence[Any], damping: Any) -> list[Any]:
    """Solve `(matrix + damping * I) x = right`.

    Args:
        rows: the blocks of a square matrix, by output and input; both have the same shapes.
        right: an array of the shape of each output.
        damping: added to the diagonal, of shape ().

    Returns:
        An array of the shape of each input.
    """
    solution: list[Any] = [None] * len(rows)
    for group in groups(rows):
        for variable, part in _solved_group(rows, group, right, damping).items():
            solution[variable] = part
    return solution


def groups(rows: Rows) -> list[list[int]]:
    """The numbers of the variables, grouped by which of them meet.

    Examples:
        >>> unit, zero = Block.identity(2), Block.zeros(2, 2)
        >>> groups([[unit, zero, unit], [zero, unit, zero], [zero, zero, unit]])
        [[0, 2], [1]]
    """
    left = set(range(len(rows)))
    result: list[list[int]] = []
    while left:
        group: set[int] = set()
        new = {min(left)}
        while new:
            group |= new
            new = {
                j
                for j in left - group
                if any(not (rows[i][j].is_zero and rows[j][i].is_zero) for i in new)
            }
        left -= group
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
        return []  # without a diagonal block no axis is shared by both sides
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


def _solved_group(
    rows: Rows, group: Sequence[int], right: Sequence[Any], damping: Any
) -> dict[int, Any]:
    """The solution for variables that meet, by their numbers."""
    shared = families(rows, group)
    first = group[0]
    sizes = tuple(rows[first][first].out_shape[family[first]] for family in shared)
    batched = {variable: [family[variable] for family in shared] for variable in group}
    shapes = {variable: rows[variable][variable].out_shape for variable in group}
    counts = {variable: math.prod(shapes[variable]) // math.prod(sizes) for variable in group}
    unknowns = sum(counts.values())
    check_size(
        (*sizes, unknowns, unknowns),
        rows[first][first].dtype,
        None,
        "the matrix of a linear system",
        "use .matvec in an iterative solver, such as jax.scipy.sparse.linalg.cg",
    )

    def entries(i: int, j: int) -> Any:
        shape = (*sizes, counts[i], counts[j])
        return _entries(rows[i][j], batched[i], batched[j], shape)

    matrix = jnp.concatenate(
        [jnp.concatenate([entries(i, j) for j in group], -1) for i in group], -2
    )
    matrix += jnp.asarray(damping, matrix.dtype) * jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    known = jnp.concatenate(
        [
            jnp.reshape(_axes_first(right[variable], batched[variable]), (*sizes, counts[variable]))
            for variable in group
        ],
        -1,
    ).astype(matrix.dtype)
    solution: Any
    if matrix.shape[-1] == 1:
        solution = known / matrix[..., 0]
    else:
        solution = cast("Any", jnp.linalg.solve(matrix, known[..., None])[..., 0])
    parts: dict[int, Any] = {}
    start = 0
    for variable in group:
        part = solution[..., start : start + counts[variable]]
        start += counts[variable]
        parts[variable] = _axes_back(part, shapes[variable], batched[variable])
    return parts


def _entries(block: Block, out: Sequence[int], wrt: Sequence[int], shape: tuple[int, ...]) -> Any:
    """A block without its deltas along these axes: a batch over them of matrices of the rest."""
    if block.is_zero:
        return jnp.zeros(shape, block.dtype)
    term = in_one(block, list(zip(out, wrt, strict=True)))
    axes = [
        *(term.out[axis] for axis in out),
        *(index for axis, index in enumerate(term.out) if axis not in out),
        *(index for axis, index in enumerate(term.wrt) if axis not in wrt),
    ]
    labels = [label for index in axes for label in index.labels]
    whole = jnp.broadcast_to(arrays.aligned(term.factors[0], labels), arrays.sizes(labels))
    return jnp.reshape(whole, shape)


def _axes_first(array: Any, axes: Sequence[int]) -> Any:
    """The array with these axes in front, in their order."""
    return jnp.moveaxis(jnp.asarray(array), tuple(axes), tuple(range(len(axes))))


def _axes_back(part: Any, shape: tuple[int, ...], axes: Sequence[int]) -> Any:
    """Undo `_axes_first` and the reshape after it."""
    rest = [size for axis, size in enumerate(shape) if axis not in axes]
    whole = jnp.reshape(part, (*(shape[axis] for axis in axes), *rest))
    return jnp.moveaxis(whole, tuple(range(len(axes))), tuple(axes))
