"""Complex terms and their real and imaginary parts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.algebra.dense_axes import as_dense_axes
from blockjac.algebra.sums import summed
from blockjac.base import compat
from blockjac.blocks import Block, Factor, Index, Label, Term
from blockjac.rules.fallback import real_dtype
from blockjac.terms.block import rebuilt


def is_complex(value: Any) -> bool:
    """Whether an array, or what has a dtype, is complex."""
    return jnp.issubdtype(value.dtype, jnp.complexfloating)


def complex_dtype(dtype: Any) -> Any:
    """The complex dtype whose parts have a real dtype."""
    return np.dtype(jnp.result_type(dtype, np.complex64))


def realified(jacobian: Block) -> Block:
    """The real block on `(2, *out) x (2, *wrt)` of a complex one: `[[Re J, -Im J], [Im J, Re J]]`.

    A term without complex numbers becomes a Kronecker delta between the parts and stores no more.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac.blocks import Block
        >>> realified(Block.diag(jnp.array([1j, 2 + 1j]))).dense().shape
        (2, 2, 2, 2)
    """
    return rebuilt(
        (2, *jacobian.out_shape),
        (2, *jacobian.wrt_shape),
        real_dtype(jacobian.dtype),
        [_realified_term(term, jacobian.dtype) for term in jacobian.terms],
    )


def complexified(block: Block) -> Block:
    """The complex block on `out x wrt` of a real one on `(2, *out) x wrt`: `J[0] + i J[1]`.

    The inverse of splitting a complex result, for a variable that is real. Terms that store no
    complex number, as those of a real part alone, store none here either.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac.blocks import Block
        >>> complexified(Block.from_dense(jnp.array([[1.0, 0.0], [0.0, 1.0]]), 1)).dense()
        Array([1.+0.j, 0.+1.j], dtype=complex64)
    """
    dtype = complex_dtype(block.dtype)
    rows = [as_any_row(term, 1, block.dtype) for term in block.T.terms]
    return summed(block.wrt_shape, block.out_shape[1:], dtype, rows).T


def _realified_term(term: Term, dtype: Any) -> Term:
    """A term by real and imaginary parts, a new axis of size 2 in front of each side."""
    row, column = Label(2), Label(2)
    if not is_complex_term(term):
        return replace(term, out=(Index.of(row), *term.out), wrt=(Index.of(row), *term.wrt))
    total, rest, coefficient = _multiplied_out(term, dtype)

    def emit() -> Any:
        real, imaginary = total.array.real, total.array.imag
        return jnp.stack([jnp.stack([real, -imaginary]), jnp.stack([imaginary, real])])

    matrix = backend().factor((row, column, *total.labels), real_dtype(dtype), emit)
    out, wrt = (Index.of(row), *term.out), (Index.of(column), *term.wrt)
    return Term((*rest, matrix), out, wrt, coefficient)


def is_complex_term(term: Term) -> bool:
    """Whether a term holds a complex number."""
    return isinstance(term.coefficient, complex) or any(
        is_complex(factor.array) for factor in term.factors
    )


def _multiplied_out(term: Term, dtype: Any) -> tuple[Factor, list[Factor], Any]:
    """All complex numbers of a term as one factor, the real factors, and the real coefficient."""
    numbers = [factor for factor in term.factors if is_complex(factor.array)]
    rest = [factor for factor in term.factors if not is_complex(factor.array)]
    coefficient = term.coefficient
    if isinstance(coefficient, complex):
        numbers, coefficient = [*numbers, complex_scalar(coefficient, dtype)], 1
    return arrays.product(numbers), rest, coefficient


def folded(term: Term) -> Term:
    """The term with its scalars that are known now, as the 2 in `2 * z`, in the coefficient."""
    known = [
        factor
        for factor in term.factors
        if not factor.labels
        and is_complex(factor.array)
        and not isinstance(factor.array, compat.Tracer)
    ]
    coefficient = term.coefficient * math.prod(complex(factor.array) for factor in known)
    rest = tuple(factor for factor in term.factors if factor not in known)
    return _real_where_it_can_be(replace(term, factors=rest, coefficient=coefficient))


def _real_where_it_can_be(term: Term) -> Term:
    """The term with a real coefficient, if that is what it is."""
    coefficient = term.coefficient
    if isinstance(coefficient, complex) and coefficient.imag == 0:
        return replace(term, coefficient=coefficient.real)
    return term


def as_row(term: Term, sign: int, dtype: Any) -> Term | None:
    """A term over the parts as one of complex numbers `part 0 + sign i part 1`, without that axis.

    Args:
        term: its first input axis is that of the parts.
        sign: -1 for a cotangent, 1 for a tangent's transpose.
        dtype: real.

    Returns:
        The complex term, without the first input axis; None where that axis is one part alone, or a
        delta: nothing is gained there by complex arithmetic.
    """
    index = term.wrt[0]
    other_labels = {
        label for axis_index in (*term.out, *term.wrt[1:]) for label in axis_index.labels
    }
    if index.constant or set(index.labels) & other_labels:
        return None
    if not index.is_plain(2):
        term = as_dense_axes(term, [0], (2,), dtype)
    (part,) = term.wrt[0].labels
    inside = [factor for factor in term.factors if part in factor.labels]
    outside = [factor for factor in term.factors if part not in factor.labels]
    if not inside:
        return replace(term, wrt=term.wrt[1:], coefficient=term.coefficient * complex(1, sign))
    # Picked before they are multiplied: XLA sees through a part of what was stacked.
    real, imaginary = (
        arrays.cast(arrays.product([arrays.pick(factor, part, number) for factor in inside]), dtype)
        for number in (0, 1)
    )
    joint = backend().factor(
        real.labels,
        complex_dtype(dtype),
        lambda: lax.complex(real.array, sign * imaginary.array),
    )
    return Term((*outside, joint), term.out, term.wrt[1:], term.coefficient)


def as_parts(term: Term, sign: int, dtype: Any) -> Term:
    """The inverse: the term with `(Re, sign Im)` on a new first input axis.

    Args:
        term: of complex numbers.
        sign: as before.
        dtype: complex.
    """
    term = _real_where_it_can_be(term)
    if not is_complex_term(term):
        return replace(term, wrt=(Index(0), *term.wrt))
    part = Label(2)
    total, rest, coefficient = _multiplied_out(term, dtype)
    # In the order of the axes: XLA turns a product around, but not parts of one.
    labels = tuple(label for label in term.labels if label in total.labels)

    def emit() -> Any:
        array = arrays.aligned(total, labels)
        return jnp.stack([array.real, sign * array.imag])

    parts = backend().factor((part, *labels), real_dtype(dtype), emit)
    return Term((*rest, parts), term.out, (Index.of(part), *term.wrt), coefficient)


def as_any_row(term: Term, sign: int, dtype: Any) -> Term:
    """`as_row`, also where the axis of parts is one part alone, or a delta."""
    row = as_row(term, sign, dtype)
    if row is not None:
        return row
    index = term.wrt[0]
    imaginary = complex(0, sign)
    if index.constant:
        factor = imaginary if index.offset else 1
        return replace(term, wrt=term.wrt[1:], coefficient=term.coefficient * factor)
    if not index.is_plain(2):
        return as_any_row(as_dense_axes(term, [0], (2,), dtype), sign, dtype)
    dtype = complex_dtype(dtype)
    units = backend().factor(index.labels, dtype, lambda: jnp.asarray([1, imaginary], dtype))
    return replace(term, factors=(*term.factors, units), wrt=term.wrt[1:])


def complex_scalar(value: complex, dtype: Any) -> Factor:
    """A complex number as a factor."""
    return backend().factor((), dtype, lambda: jnp.asarray(value, dtype))
