"""The logarithm of a determinant from the structure of a matrix, with nothing factored in vain.

Known places are permuted to a block triangular matrix, by a matching and its strongly connected
components. Only the blocks on its diagonal count, so that a triangular matrix, whatever the order
of its rows and columns, takes its diagonal alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from blockjac.algebra.entries import Piece, dtype_of, is_static, pieces, places, shape_of, values
from blockjac.algebra.sums import compact
from blockjac.devices import host_limit, in_bytes
from blockjac.linear_systems import kronecker, low_rank
from blockjac.linear_systems.groups import Family, Rows, families
from blockjac.linear_systems.settled import settled
from blockjac.linear_systems.solver import wide
from blockjac.linear_systems.stripped import Stripped
from blockjac.linear_systems.triangular_form import TriangularForm, triangular_form
from blockjac.linear_systems.way import BYTES_A_PLACE
from blockjac.linear_systems.ways import written

MOVES = "volume preserved"
"""The method for a matrix of ones and minus ones that moves its inputs."""

LATE = "reordered by the running program"


@dataclass(frozen=True)
class Determinant:
    """How the determinant of a matrix follows from its structure.

    Attributes:
        logarithm: computes the logarithm of its absolute value.
        method: how, in a few words.
        is_dense: whether no structure is of use, in the matrix or in each of its systems.
        systems: the number of separate systems of the same method.
        is_shared: whether all systems have one matrix.
    """

    logarithm: Callable[[], Any]
    method: str
    is_dense: bool = False
    systems: int = 1
    is_shared: bool = False


def determinant(rows: Rows) -> Determinant:
    """The determinant of a square grid of blocks.

    Args:
        rows: the blocks by output and input, of as many outputs as inputs in all.

    Examples:
        >>> import jax.numpy as jnp
        >>> import blockjac
        >>> x = jnp.arange(4.0)
        >>> block = blockjac.block_jacobian(lambda x: (x * jnp.arange(1, 5))[::-1])(x)
        >>> found = determinant([[block]])
        >>> found.method, round(float(jnp.exp(found.logarithm())), 3)
        ('diagonal of 4, reordered', 24.0)
    """
    rows = [[settled(compact(block)) for block in row] for row in rows]
    size, dtype = shape_of(rows)[0], wide(dtype_of(rows))
    if not size:
        return Determinant(lambda: jnp.zeros((), dtype), "nothing")
    if _only_moves(rows) and (form := _form(rows, size)) is not None and form.is_diagonal:
        return Determinant(lambda: jnp.zeros((), dtype), MOVES)
    shared = _families(rows)
    if shared:
        return _batched(rows, shared[0])
    if size == 1:
        return Determinant(lambda: jnp.sum(_log(written(rows, dtype))), "one number")
    split = low_rank.split_of(rows) if _has_equal_shapes(rows) else None
    if split is not None and 2 * split.rank < size:
        method = f"diagonal of {size} plus rank {split.rank}"
        return Determinant(lambda: low_rank.log_determinant(rows, split, dtype), method)
    form = _form(rows, size)
    if form is not None and form.is_of_use:
        return Determinant(lambda: _by_form(rows, form, dtype), form.method)
    moved = _one_place_a_row(rows)
    if moved is not None:
        compute = partial(_of_moved, rows, moved, size, dtype)
        return Determinant(compute, f"diagonal of {size}, {LATE}")
    parts = kronecker.groups_of(rows[0][0]) if len(rows) == 1 and len(rows[0]) == 1 else None
    if parts is not None:
        return _as_kronecker([block for _, block in parts], size)

    def dense() -> Any:
        """The logarithm, by factors of the whole matrix."""
        return cast("Any", jnp.linalg.slogdet(written(rows, dtype)))[1]

    cost = f"all {size:,} x {size:,} entries, {in_bytes(size**2 * dtype.itemsize)}"
    return Determinant(
        dense,
        f"dense LU of {size}: no structure is of use in {_structures(rows)}, so that {cost}, are "
        "written out",
        is_dense=True,
    )


def _only_moves(rows: Rows) -> bool:
    """Whether all entries are ones and minus ones."""
    return all(
        not term.factors and abs(term.coefficient) == 1
        for row in rows
        for block in row
        for term in block.terms
    )


def _structures(rows: Rows) -> str:
    """The structure of each block."""
    return "; ".join(repr(block.structure) for row in rows for block in row)


def _has_equal_shapes(rows: Rows) -> bool:
    """Whether outputs and inputs are the same variables, in the same order."""
    return [row[0].out_shape for row in rows] == [block.wrt_shape for block in rows[0]]


def _families(rows: Rows) -> list[Family]:
    """The axes that number independent systems; only of variables that have the same shapes."""
    return families(rows, range(len(rows))) if _has_equal_shapes(rows) else []


def _batched(rows: Rows, family: Family) -> Determinant:
    """The determinants of the systems that an axis numbers."""
    batch = Stripped(rows, family)
    count = rows[0][0].out_shape[family[0]]
    inner = determinant(batch.grid(batch.of_one))

    def one(*arrays: Any) -> Any:
        return determinant(batch.grid(arrays)).logarithm()

    def logarithm() -> Any:
        if batch.is_shared:
            return count * one(*batch.arrays)
        return jnp.sum(jax.vmap(one, in_axes=tuple(batch.axes))(*batch.arrays))

    method, size = inner.method, shape_of(rows)[0]
    if method == "one number" or (method.startswith("diagonal of") and "plus" not in method):
        return Determinant(logarithm, f"diagonal of {size}")
    systems = count
    if inner.systems > 1 and inner.is_shared == batch.is_shared:
        systems, method = count * inner.systems, method.partition(": ")[2]
    elif inner.is_dense and inner.systems == 1:  # that they are separate is of use
        method = method.partition(":")[0]
    shared = " with one matrix" if batch.is_shared else ""
    method = f"{systems} systems{shared}: {method}"
    return Determinant(logarithm, method, inner.is_dense, systems, batch.is_shared)


def _as_kronecker(blocks: Sequence[Any], size: int) -> Determinant:
    """The determinants of the factors of a Kronecker product, each to a power."""
    parts = [(determinant([[block]]), size // math.prod(block.out_shape)) for block in blocks]

    def logarithm() -> Any:
        return sum(power * part.logarithm() for part, power in parts)

    methods = " and ".join(f"({part.method})" for part, _ in parts)
    return Determinant(logarithm, f"Kronecker product of {methods}")


# Known places


def _form(rows: Rows, size: int) -> TriangularForm | None:
    """The block triangular form of a grid whose places are known, if it has any zeros."""
    terms = pieces(rows)
    count = sum(piece.count for piece in terms)
    is_full = any(piece.count >= size**2 and len(piece.term.labels) < 3 for piece in terms)
    if is_full or not is_static(rows) or BYTES_A_PLACE * count > host_limit():
        return None
    return triangular_form(rows)


def _by_form(rows: Rows, form: TriangularForm, dtype: Any) -> Any:
    """The sum over the diagonal blocks, of which alone the entries are computed."""
    if form.is_singular:
        return jnp.full((), -jnp.inf, dtype)
    matrices = [
        jnp.zeros((len(numbers) * width**2,), dtype) for width, numbers in form.sizes.items()
    ]
    for piece in pieces(rows):
        own = places(piece)
        inside = np.ones(len(own.rows), bool) if own.inside is None else own.inside
        for number, width in enumerate(form.sizes):
            entries, targets = form.targets(own.rows, own.columns, inside, width)
            if len(entries):
                numbers = _chosen(piece.term, entries, dtype)
                matrices[number] = matrices[number].at[targets].add(numbers)
    logarithms: list[Any] = [
        _log(matrix) if width == 1 else jnp.linalg.slogdet(matrix.reshape(-1, width, width))[1]
        for width, matrix in zip(form.sizes, matrices, strict=True)
    ]
    return sum(map(jnp.sum, logarithms))


def _one_place_a_row(rows: Rows) -> Piece | None:
    """The term with one entry in each row, at a column that only the running program knows."""
    terms = pieces(rows)
    if len(terms) != 1 or len(rows) != 1 or len(rows[0]) != 1 or is_static(rows):
        return None
    block, term = rows[0][0], terms[0].term
    is_plain = all(
        index.is_plain(size) for index, size in zip(term.out, block.out_shape, strict=True)
    )
    labels = [label for index in term.out for label in index.labels]
    is_whole = is_plain and len(set(labels)) == len(labels) == len(term.labels)
    return terms[0] if is_whole else None


def _of_moved(rows: Rows, piece: Piece, size: int, dtype: Any) -> Any:
    """The sum over the entries, if no two of them are in one column."""
    own = places(piece, jnp, jnp.int32)
    columns = own.columns if own.inside is None else jnp.where(own.inside, own.columns, size)
    counts = jnp.zeros(size, jnp.int32).at[columns].add(1, mode="drop")
    total = jnp.sum(_log(jnp.asarray(values(rows), dtype)))
    return jnp.where(jnp.all(counts == 1), total, -jnp.inf)


def _chosen(term: Any, entries: np.ndarray, dtype: Any) -> Any:
    """The values of some entries of a term, by their numbers in the order of its labels."""
    labels = term.labels
    numbers = np.unravel_index(entries, [label.size for label in labels]) if labels else ()
    at = dict(zip(labels, numbers, strict=True))
    product = jnp.full((len(entries),), term.coefficient, dtype)
    for factor in term.factors:
        index = tuple(at[label] for label in factor.labels)
        product = product * cast("Any", jnp.asarray(factor.array))[index]
    return product


def _log(values: Any) -> Any:
    return jnp.log(jnp.abs(values))
