"""Complex numbers: the real Jacobian of their parts, in the structure of the complex one.

A complex variable is differentiated as its real and imaginary parts, stacked on a leading axis of
size 2. A holomorphic primitive has a complex Jacobian `J`, which its rule gives as it does for real
numbers; on the parts it is

    [[Re J, -Im J],
     [Im J,  Re J]]

so that what has no complex factor is a Kronecker delta between the parts. What has one is applied
in complex arithmetic, as one product and not as four: a cotangent `q` of the parts is the complex
row `q[0] - i q[1]`, a tangent `t` the complex column `t[0] + i t[1]`. What is not holomorphic
(conj, real, imag, abs) is linear in the parts, and has a rule of its own here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from blockjac.algebra import arrays
from blockjac.algebra.backend import backend
from blockjac.algebra.dense_axes import as_dense_axes
from blockjac.algebra.sums import summed
from blockjac.base import compat
from blockjac.blocks import Block, Factor, Index, Label, Term, add, star
from blockjac.graph.graph import Equation
from blockjac.graph.primitives import named
from blockjac.operators.operator import Operator, OperatorGroup
from blockjac.rules.cumulative import RunningSum
from blockjac.rules.fallback import real_dtype, vertex_shape
from blockjac.rules.registry import (
    OPERATOR_RULES,
    RULES,
    OperatorRule,
    Rows,
    labels_of,
    made,
    over,
    plain,
)
from blockjac.terms.block import rebuilt

HOLOMORPHIC = named("complex", "holomorphic")
"""Primitives whose rule, written for real numbers, gives the complex Jacobian of complex ones."""


def complex_rule(
    name: str,
    outs: Sequence[Any],
    inputs: Sequence[Any],
    params: dict[str, Any],
    active: Sequence[bool],
) -> Rows | None:
    """The elemental Jacobians of an equation with complex numbers, on their parts.

    Args:
        name: of the primitive.
        outs: the results.
        inputs: the operands.
        params: the primitive's parameters.
        active: which operands are differentiated.

    Returns:
        Blocks and operators, by result and operand; None where the equation is left to JAX.
    """
    if name in REAL_LINEAR:
        return [[REAL_LINEAR[name](outs[0], inputs[0])]]
    if name not in HOLOMORPHIC:
        return None
    rows = RULES[name].apply(outs, inputs, params, active)
    if rows is None:
        return None
    answer: Rows = []
    for out, row in zip(outs, rows, strict=True):
        wanted = [edge if moves else None for edge, moves in zip(row, active, strict=True)]
        edges = [
            None if edge is None else _on_parts(edge, out, operand)
            for edge, operand in zip(_joined(wanted, inputs), inputs, strict=True)
        ]
        if any(edge is NotImplemented for edge in edges):
            return None
        answer.append(edges)
    return answer


def _joined(row: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """The blocks with those of one and the same operand, as in `z * z`, added up in its first."""
    first: dict[int, int] = {}
    joined = list(row)
    for place, (edge, operand) in enumerate(zip(row, inputs, strict=True)):
        if isinstance(edge, Block):
            earlier = first.setdefault(id(operand), place)
            if earlier != place:
                joined[earlier], joined[place] = add(joined[earlier], edge), None
    return joined


def _on_parts(edge: Any, out: Any, operand: Any) -> Any:
    """The real edge of a complex one; NotImplemented where it is not known."""
    if is_complex(out) != is_complex(operand):
        return NotImplemented
    if not is_complex(out):
        return edge
    if isinstance(edge, Block):
        jacobian = rebuilt(edge.out_shape, edge.wrt_shape, edge.dtype, map(_folded, edge.terms))
        if any(map(_is_complex_term, jacobian.terms)):
            return Operator(Holomorphic(jacobian), 0, 0)
        return realified(jacobian)
    if isinstance(edge.group, RunningSum):
        group = edge.group
        (shape,), (dtype,) = group.wrt_shapes, group.dtypes
        return Operator(
            RunningSum((2, *shape), real_dtype(dtype), group.axis + 1, group.from_end), 0, 0
        )
    return NotImplemented


# Complex terms and the parts of them


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

    The inverse of taking a complex result apart, for a variable that is real. Terms that store no
    complex number, as those of a real part alone, store none here either.

    Examples:
        >>> import jax.numpy as jnp
        >>> from blockjac.blocks import Block
        >>> complexified(Block.from_dense(jnp.array([[1.0, 0.0], [0.0, 1.0]]), 1)).dense()
        Array([1.+0.j, 0.+1.j], dtype=complex64)
    """
    dtype = complex_dtype(block.dtype)
    rows = [_as_any_row(term, 1, block.dtype) for term in block.T.terms]
    return summed(block.wrt_shape, block.out_shape[1:], dtype, rows).T


def _realified_term(term: Term, dtype: Any) -> Term:
    row, column = Label(2), Label(2)
    if not _is_complex_term(term):
        return replace(term, out=(Index.of(row), *term.out), wrt=(Index.of(row), *term.wrt))
    total, rest, coefficient = _multiplied_out(term, dtype)

    def emit() -> Any:
        real, imaginary = total.array.real, total.array.imag
        return jnp.stack([jnp.stack([real, -imaginary]), jnp.stack([imaginary, real])])

    matrix = backend().factor((row, column, *total.labels), real_dtype(dtype), emit)
    out, wrt = (Index.of(row), *term.out), (Index.of(column), *term.wrt)
    return Term((*rest, matrix), out, wrt, coefficient)


def _is_complex_term(term: Term) -> bool:
    return isinstance(term.coefficient, complex) or any(
        is_complex(factor.array) for factor in term.factors
    )


def _multiplied_out(term: Term, dtype: Any) -> tuple[Factor, list[Factor], Any]:
    """All complex numbers of a term as one factor, the real factors, and the real coefficient."""
    numbers = [factor for factor in term.factors if is_complex(factor.array)]
    rest = [factor for factor in term.factors if not is_complex(factor.array)]
    coefficient = term.coefficient
    if isinstance(coefficient, complex):
        numbers, coefficient = [*numbers, _scalar(coefficient, dtype)], 1
    return arrays.product(numbers), rest, coefficient


def _folded(term: Term) -> Term:
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


def _as_row(term: Term, sign: int, dtype: Any) -> Term | None:
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
    others = {label for other in (*term.out, *term.wrt[1:]) for label in other.labels}
    if index.constant or set(index.labels) & others:
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
        arrays.cast(arrays.product([arrays.pick(one, part, place) for one in inside]), dtype)
        for place in (0, 1)
    )
    joint = backend().factor(
        real.labels,
        complex_dtype(dtype),
        lambda: lax.complex(real.array, sign * imaginary.array),
    )
    return Term((*outside, joint), term.out, term.wrt[1:], term.coefficient)


def _as_parts(term: Term, sign: int, dtype: Any) -> Term:
    """The inverse: the term with `(Re, sign Im)` on a new first input axis.

    Args:
        term: of complex numbers.
        sign: as before.
        dtype: complex.
    """
    term = _real_where_it_can_be(term)
    if not _is_complex_term(term):
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


# Holomorphic maps


class Holomorphic(OperatorGroup):
    """A complex Jacobian that acts on parts, by complex arithmetic; its structure is kept."""

    def __init__(self, jacobian: Block) -> None:
        dtype = real_dtype(jacobian.dtype)
        super().__init__(
            out_shapes=[(2, *jacobian.out_shape)],
            wrt_shapes=[(2, *jacobian.wrt_shape)],
            dtypes=[dtype],
            out_dtypes=[dtype],
            name="complex numbers",
        )
        self.jacobian = jacobian

    @property
    def held(self) -> Block:
        """The complex Jacobian."""
        return self.jacobian

    def written(self, row: int, column: int) -> Block:
        """The real block of the parts."""
        del row, column
        return realified(self.jacobian)

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`cotangent star J`."""
        (cotangent,) = cotangents
        if cotangent is None:
            return [None]
        return [self._through(cotangent, self.dtypes[0], forward=False)]

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`J star tangent`: the transpose through the transpose."""
        (tangent,) = tangents
        return [
            None if tangent is None else self._through(tangent.T, tangent.dtype, forward=True).T
        ]

    def _through(self, block: Block, dtype: Any, *, forward: bool) -> Block:
        """`block star J`, or `block star J.T` if `forward`, of the real dtype."""
        sign = 1 if forward else -1
        jacobian = self.jacobian.T if forward else self.jacobian
        jacobian = rebuilt(
            jacobian.out_shape, jacobian.wrt_shape, complex_dtype(dtype), jacobian.terms
        )
        rows = {term: _as_row(term, sign, block.dtype) for term in block.terms}
        complex_rows = [row for row in rows.values() if row is not None]
        others = [term for term, row in rows.items() if row is None]
        terms: list[Term] = []
        if complex_rows:
            left = rebuilt(
                block.out_shape, block.wrt_shape[1:], complex_dtype(block.dtype), complex_rows
            )
            product = star(left, jacobian)
            terms += [_as_parts(term, sign, product.dtype) for term in product.terms]
        if others:
            left = rebuilt(block.out_shape, block.wrt_shape, block.dtype, others)
            right = self.block(0, 0).T if forward else self.block(0, 0)
            right = rebuilt(right.out_shape, right.wrt_shape, dtype, right.terms)
            terms += star(left, right).terms
        return summed(block.out_shape, (2, *jacobian.wrt_shape), dtype, terms)


# Maps that are linear in the parts


def _same_part(out: Any, operand: Any) -> Block:
    """`out = z`."""
    shape = vertex_shape(operand)
    del out
    return Block.identity(shape, real_dtype(operand.dtype))


def _part(place: int, out: Any, operand: Any) -> Block:
    """`out = z[place]`, one of the parts."""
    labels = plain(labels_of(out.shape))
    term = Term((), labels, (Index(place), *labels))
    return made(out.shape, vertex_shape(operand), real_dtype(operand.dtype), term)


def _placed(place: int, out: Any, operand: Any) -> Block:
    """`out[place] = x`, nothing in the other part."""
    labels = plain(labels_of(operand.shape))
    term = Term((), (Index(place), *labels), labels)
    return made(vertex_shape(out), operand.shape, operand.dtype, term)


def _conjugate(out: Any, operand: Any) -> Block:
    """`out = (re, -im)`; JAX's conj of a real number is a complex one."""
    if not is_complex(operand):
        return _placed(0, out, operand)
    dtype = real_dtype(operand.dtype)
    labels = [Label(2), *labels_of(operand.shape)]
    signs = Factor(jnp.asarray([1, -1], dtype), (labels[0],))
    shape = vertex_shape(operand)
    return made(shape, shape, dtype, Term((signs,), plain(labels), plain(labels)))


def _absolute(out: Any, operand: Any) -> Block:
    """`d |z| = (re, im) / |z|`, and 0 where z is 0, as in JAX."""
    part, *labels = Label(2), *labels_of(operand.shape)
    size = jnp.where(out == 0, jnp.ones_like(out), out)
    # Stacked last: XLA sees through a part of what was stacked.
    slopes = jnp.stack([operand.real / size, operand.imag / size])
    factor = over(slopes, [part, *labels], out.dtype)
    term = Term((factor,), plain(labels), plain([part, *labels]))
    return made(out.shape, vertex_shape(operand), out.dtype, term)


def _converted(out: Any, operand: Any) -> Block:
    """Another precision, a complex number with no imaginary part, or the real part of one."""
    if is_complex(out) and is_complex(operand):
        return _same_part(out, operand)
    return _placed(0, out, operand) if is_complex(out) else _part(0, out, operand)


REAL_LINEAR: dict[str, Callable[[Any, Any], Block]] = {
    "abs": _absolute,
    "convert_element_type": _converted,
}
"""Rules of their own where complex numbers take part, for primitives of real numbers too."""


# The Fourier transform


class FourierTransform(OperatorGroup):
    """A Fourier transform of the last axes; other axes keep what structure they have.

    Args:
        equation: with the primitive and its parameters.
        out: the result, or its shape and dtype.
        operand: the operand, or its shape and dtype.
    """

    def __init__(self, equation: Equation, out: Any, operand: Any) -> None:
        super().__init__(
            out_shapes=[vertex_shape(out)],
            wrt_shapes=[vertex_shape(operand)],
            dtypes=[real_dtype(operand.dtype)],
            out_dtypes=[real_dtype(out.dtype)],
            name="fft",
        )
        self.transform, self.params = equation.primitive, equation.params
        self.rank = len(self.params["fft_lengths"])
        self.out, self.operand = (
            jax.ShapeDtypeStruct(value.shape, value.dtype) for value in (out, operand)
        )

    def written(self, row: int, column: int) -> Block:
        """The matrix of the transform on its axes, deltas on all others."""
        del column
        answer = self.pullback([Block.identity(self.out_shapes[row], self.out_dtypes[row])])[0]
        if answer is None:
            raise ValueError("an identity was given")
        return answer

    def pullback(self, cotangents: Sequence[Block | None]) -> list[Block | None]:
        """`cotangent star J`."""
        (cotangent,) = cotangents
        if cotangent is None:
            return [None]
        return [self._through(cotangent, self.out, self.operand, self._backwards, -1)]

    def pushforward(self, tangents: Sequence[Block | None]) -> list[Block | None]:
        """`J star tangent`: the transpose through the transpose."""
        (tangent,) = tangents
        if tangent is None:
            return [None]
        pushed = self._through(tangent.T, self.operand, self.out, self._forwards, 1).T
        return [rebuilt(pushed.out_shape, pushed.wrt_shape, tangent.dtype, pushed.terms)]

    def _forwards(self, array: Any) -> Any:
        return compat.bind(self.transform, [array], self.params)[0]

    def _backwards(self, array: Any) -> Any:
        batch = array.shape[: array.ndim - self.rank]
        shape = (*batch, *self.operand.shape[len(self.operand.shape) - self.rank :])
        operand = jax.ShapeDtypeStruct(shape, self.operand.dtype)
        (answer,) = jax.linear_transpose(self._forwards, operand)(array)
        return answer

    def _through(
        self, block: Block, given: Any, wanted: Any, transform: Callable[[Any], Any], sign: int
    ) -> Block:
        """Each term of a block by the variable `given` transformed to one by `wanted`."""
        terms = [self._term_through(term, given, wanted, transform, sign) for term in block.terms]
        return summed(block.out_shape, vertex_shape(wanted), real_dtype(wanted.dtype), terms)

    def _term_through(
        self, term: Term, given: Any, wanted: Any, transform: Callable[[Any], Any], sign: int
    ) -> Term:
        if is_complex(given):
            term = _as_any_row(term, sign, real_dtype(given.dtype))
        rank = len(given.shape)
        axes = range(rank - self.rank, rank)
        term = as_dense_axes(term, axes, given.shape, given.dtype)
        targets = [label for axis in axes for label in term.wrt[axis].labels]
        # To a real variable the map is linear over real numbers only: complex ones go through it.
        inside = [
            factor
            for factor in term.factors
            if set(factor.labels) & set(targets)
            or (is_complex(factor.array) and not is_complex(wanted))
        ]
        outside = [factor for factor in term.factors if factor not in inside]
        coefficient = term.coefficient
        if isinstance(coefficient, complex) and not is_complex(wanted):
            inside, coefficient = [*inside, _scalar(coefficient, given.dtype)], 1
        batch = [label for label in arrays.union(inside) if label not in targets]
        sizes = given.shape[axes.start :]
        value = _spread(inside, [*batch, *targets], (*arrays.sizes(batch), *sizes), given.dtype)
        new_sizes = wanted.shape[len(wanted.shape) - self.rank :]
        result = self._applied(value, (*arrays.sizes(batch), *new_sizes), wanted.dtype, transform)
        labels = labels_of(new_sizes)
        carried = (*batch, *(label for label in labels if label.size != 1))
        factor = Factor(arrays.reshaped(result, carried), carried)
        made_term = Term(
            (*outside, factor), term.out, (*term.wrt[: axes.start], *plain(labels)), coefficient
        )
        return _as_parts(made_term, sign, wanted.dtype) if is_complex(wanted) else made_term

    def _applied(
        self, value: Any, shape: tuple[int, ...], dtype: Any, transform: Callable[[Any], Any]
    ) -> Any:
        entries = max(math.prod(shape), math.prod(value.shape))
        length = math.prod(self.params["fft_lengths"])
        return backend().array(
            shape,
            dtype,
            lambda: transform(value),
            operations=5 * entries * length.bit_length(),
            moved=2 * entries * np.dtype(dtype).itemsize,
        )


def _as_any_row(term: Term, sign: int, dtype: Any) -> Term:
    """`_as_row`, also where the axis of parts is one part alone, or a delta."""
    row = _as_row(term, sign, dtype)
    if row is not None:
        return row
    index = term.wrt[0]
    imaginary = complex(0, sign)
    if index.constant:
        factor = imaginary if index.offset else 1
        return replace(term, wrt=term.wrt[1:], coefficient=term.coefficient * factor)
    if not index.is_plain(2):
        return _as_any_row(as_dense_axes(term, [0], (2,), dtype), sign, dtype)
    dtype = complex_dtype(dtype)
    units = backend().factor(index.labels, dtype, lambda: jnp.asarray([1, imaginary], dtype))
    return replace(term, factors=(*term.factors, units), wrt=term.wrt[1:])


def _scalar(value: complex, dtype: Any) -> Factor:
    """A complex number as a factor."""
    return backend().factor((), dtype, lambda: jnp.asarray(value, dtype))


def _spread(
    factors: Sequence[Factor], labels: Sequence[Label], shape: tuple[int, ...], dtype: Any
) -> Any:
    """The product of factors over all the labels, in the shape, which has axes of size 1 too."""
    backend().check_fits(labels, dtype)
    if not factors:
        return backend().array(shape, dtype, lambda: jnp.ones(shape, dtype))
    product = arrays.product(factors)

    def emit() -> Any:
        array = jnp.broadcast_to(arrays.aligned(product, labels), arrays.sizes(labels))
        return jnp.reshape(array, shape).astype(dtype)

    return backend().array(shape, dtype, emit)


# What is registered


def _evaluate(
    equation: Equation, inputs: Sequence[Any], active: Sequence[bool]
) -> tuple[Sequence[Any], None]:
    """The results; a linear map keeps nothing for its derivative."""
    del active
    return compat.bind(equation.primitive, inputs, equation.params), None


def _linear(*edges: Callable[[Equation, Any, Any], Any]) -> OperatorRule:
    """A linear primitive, by its edge `(equation, out, operand)` for each operand."""

    def rows(
        equation: Equation,
        inputs: Sequence[Any],
        outs: Sequence[Any],
        residuals: Any,
        active: Sequence[bool],
    ) -> Rows:
        del residuals
        return [
            [
                edge(equation, outs[0], operand) if wanted else None
                for edge, operand, wanted in zip(edges, inputs, active, strict=True)
            ]
        ]

    return OperatorRule(_evaluate, rows)


OPERATOR_RULES["real"] = _linear(lambda _, out, operand: _part(0, out, operand))
OPERATOR_RULES["imag"] = _linear(lambda _, out, operand: _part(1, out, operand))
OPERATOR_RULES["conj"] = _linear(lambda _, out, operand: _conjugate(out, operand))
OPERATOR_RULES["complex"] = _linear(
    lambda _, out, operand: _placed(0, out, operand),
    lambda _, out, operand: _placed(1, out, operand),
)
OPERATOR_RULES["fft"] = _linear(
    lambda equation, out, operand: Operator(FourierTransform(equation, out, operand), 0, 0)
)
